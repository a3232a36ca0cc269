"""Passes of more images than a GPU's memory takes at once, in pieces."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dfshield.checks import at_least


class InPieces(nn.Module):
    """A model that no more than so many images go through at once, on the way there and back.

    A pass of more is cut into pieces. On the way back each is computed anew (Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost"; `torch.utils.checkpoint`), so that what the
    model keeps for its gradients is that of one piece. The logits and gradients of an image are
    those of a pass of its piece.

    Args:
        model: in eval mode, so that images do not touch one another; one that draws no numbers.
        most: images in a piece.

    Raises:
        InputError: for a piece of no image.
    """

    def __init__(self, model: nn.Module, *, most: int) -> None:
        super().__init__()
        self._model, self._most = model, at_least(1, most, "most")

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        if len(images) <= self._most:
            logits: Tensor = self._model(images)
            return logits
        pieces = torch.split(images, self._most)
        if torch.is_grad_enabled() and images.requires_grad:
            return torch.cat([self._computed_twice(piece) for piece in pieces])
        return torch.cat([self._model(piece) for piece in pieces])

    def _computed_twice(self, piece: Tensor) -> Tensor:
        # Nothing is drawn: the states of global generators need not be kept.
        logits: Tensor = checkpoint(
            self._model, piece, use_reentrant=False, preserve_rng_state=False
        )
        return logits
