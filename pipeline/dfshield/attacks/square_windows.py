"""Square of pyautoattack for images of every size, and for logits that tie or are not finite."""

import math

import torch
from jaxtyping import Float, Int
from pyautoattack.square import SquareAttack
from torch import Tensor

STRIPES = 5
"""Windows of the l_2 start along the height, but for what rounding adds."""
NARROWEST = 3
"""Side of the smallest window of the l_2 search where the image has room for it."""


class SquareOfAnySize(SquareAttack):  # type: ignore[misc]
    """pyautoattack's Square; where that runs through, with its result to the bit.

    Its l_2 start lays windows side by side and fails where the last ones leave the image (sides of
    12, 14, 18, 19 and 24 pixels, most rectangles) or are narrower than a pixel (sides below 5).
    Here a window that leaves the image is cut off at its edge. The search that follows is the same.
    """

    def margin_and_loss(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return margins and losses; a margin that is zero or NaN lies below 0: it is broken.

        As they are, an image with one would neither be searched further nor count as done.
        """
        margin, loss = super().margin_and_loss(x, y)
        broken = (margin == 0) | margin.isnan()
        return margin.masked_fill(broken, -torch.finfo(margin.dtype).tiny), loss

    def attack_single_run(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n c h w"]]:
        """Return the queries used and where the search ends."""
        with torch.no_grad():
            found: tuple[Tensor, Tensor]
            found = self._search(x, y) if self.norm == "L2" else super().attack_single_run(x, y)
        return found

    def _search(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n c h w"]]:
        best = torch.clamp(x + self.normalize(self._start(x)) * self.eps, 0.0, 1.0)
        margin, loss = self.margin_and_loss(best, y)
        queries = torch.ones(len(x), device=x.device)
        for iteration in range(self.n_queries):
            left = (margin > 0).nonzero().flatten()
            if not len(left):
                break
            moved = self._moved(x[left], best[left], self._side(x, iteration))
            new_margin, new_loss = self.margin_and_loss(moved, y[left])
            better = new_loss < loss[left]
            taken = better | (new_margin <= 0)
            loss[left] = torch.where(better, new_loss, loss[left])
            margin[left] = torch.where(taken, new_margin, margin[left])
            best[left] = torch.where(taken.view(-1, 1, 1, 1), moved, best[left])
            queries[left] += 1
        return queries, best

    def _start(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return windows side by side, each with a sign of its own per image and channel."""
        height, width = x.shape[2:]
        side = max(1, height // STRIPES)
        margin = max(0, (height - STRIPES * side) // 2)
        delta = torch.zeros_like(x)
        for row in range(height // side):
            for column in range(width // side):
                top, left = margin + row * side, margin + column * side
                signs = self._signs(len(x), x.shape[1], side)
                window = delta[:, :, top : top + side, left : left + side]
                window += signs[:, :, : window.shape[2], : window.shape[3]]
        return delta

    def _signs(self, count: int, channels: int, side: int) -> Float[Tensor, "n c s s"]:
        """Return the window's pattern of norm 1 under random signs."""
        # Contiguous: where the pattern lies on its side, sums would round differently.
        pattern = self.eta(side).contiguous().view(1, 1, side, side)
        signs: Tensor = pattern * self.random_choice([count, channels, 1, 1])
        return signs

    def _side(self, x: Float[Tensor, "n c h w"], iteration: int) -> int:
        """Return the side of the windows, which shrinks as the search goes on."""
        channels, height, width = x.shape[1:]
        # In pyautoattack's order of operations: another one may round to another side.
        share: float = self.p_selection(iteration) * (channels * height * width) / channels
        side = max(round(math.sqrt(share)), NARROWEST)
        return min(side + 1 - side % 2, int(height), int(width))

    def _moved(
        self, x: Float[Tensor, "n c h w"], best: Float[Tensor, "n c h w"], side: int
    ) -> Float[Tensor, "n c h w"]:
        """Return ``best`` with the norm of one window moved to another, on top of its pattern."""
        channels, height, width = x.shape[1:]
        delta = best - x
        there, away = (self._window(height - side, width - side, side) for _ in range(2))
        mask = torch.zeros_like(x)
        mask[there] = 1.0
        mask[away] = 1.0
        norm = self.lp_norm(delta)
        windows = _norms(delta * mask)
        pattern = self._signs(len(x), channels, side)
        pattern = pattern + delta[there] / (1e-12 + _norms(delta[there]))
        unused = torch.clamp((self.eps * torch.ones_like(pattern)) ** 2 - norm**2, min=0.0)
        pattern = pattern / (1e-12 + _norms(pattern)) * (unused / channels + windows**2).sqrt()
        delta[away] = 0.0
        delta[there] = pattern
        return torch.clamp(x + self.normalize(delta) * self.eps, 0.0, 1.0)

    def _window(self, lowest: int, rightmost: int, side: int) -> tuple[slice, slice, slice, slice]:
        top, left = int(self.random_int(0, lowest)), int(self.random_int(0, rightmost))
        return slice(None), slice(None), slice(top, top + side), slice(left, left + side)


def _norms(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 1 1"]:
    """Return the l_2 norm of every channel."""
    return (x**2).sum(dim=(-2, -1), keepdim=True).sqrt()
