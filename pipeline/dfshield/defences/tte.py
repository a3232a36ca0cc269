"""Test-time transformation ensembling: the mean of the logits of shifted and mirrored images."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.checks import at_least, one_of
from dfshield.classifiers import Classifier
from dfshield.defences.base import Defence
from dfshield.errors import InputError
from dfshield.seeds import RngStream, generator

CROPS = 4
"""Crops of the image, and as many of its mirror image: the setting that its authors found best."""

MOST_PADDING = 65_536

Compat = Literal["corrected", "official"]


class TTE(Defence):
    """Test-time transformation ensembling (Pérez et al. 2021): the mean of the logits of ten views.

    ``f(x) = (1/10) sum_v T(v(x))`` over the image, its mirror image (left and right), four crops of
    the image, and the same four crops of its mirror image. A crop is a window of the image's size
    in the image with ``padding`` zeros around it, on the [0, 1] scale: zero is black.

    The places of the crops are drawn once, here, so the defended model is deterministic, and
    differentiable: AutoAttack's version ``standard`` applies.

    Args:
        padding: zeros on each side, for images that are larger than that.
        seed: of the places of the crops.
        compat: ``official`` repeats what the published code computes. Its four crops share one
            variable, so all of them are the last one drawn, and no crop lies at the far end of the
            padding: it averages the image, its mirror image, and one crop of each, four times.

    Raises:
        InputError: for a padding below 1 or above 65,536, a negative seed or an unknown ``compat``.
    """

    name = "tte"

    def __init__(self, *, padding: int = 4, seed: int = 0, compat: Compat = "corrected") -> None:
        self.padding = at_least(1, padding, "padding")
        if self.padding > MOST_PADDING:
            raise InputError(f"padding: {padding} must be at most {MOST_PADDING}")
        self.seed = at_least(0, seed, "seed")
        one_of(("corrected", "official"), compat, "compat")
        self.compat: Compat = compat
        official = compat == "official"
        places = 2 * self.padding if official else 2 * self.padding + 1
        drawn = generator(self.seed, RngStream.DEFENCE).integers(places, size=(CROPS, 2)).tolist()
        self.corners = [drawn[-1]] * CROPS if official else drawn

    def around(self, model: nn.Module) -> nn.Module:
        """Return the ensemble; see `Defence`."""
        if isinstance(model, Classifier):
            _require_room(model.input_shape[1:], self.padding)
        return _Ensemble(model, self.padding, self.corners)


class _Ensemble(nn.Module):
    """The mean of a model's logits over the views of `TTE`.

    Args:
        model: returns logits.
        padding: zeros on each side.
        corners: top and left of every crop in the padded image.
    """

    def __init__(self, model: nn.Module, padding: int, corners: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.model = model
        self._padding = padding
        self._corners = corners

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the mean logits.

        Raises:
            InputError: for images that are no larger than the padding.
        """
        _require_room(x.shape[2:], self._padding)
        mirrored = x.flip(3)
        views = [x, mirrored, *self._crops(x), *self._crops(mirrored)]
        return torch.stack([self.model(view) for view in views]).mean(0)

    def _crops(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n c h w"]]:
        height, width = x.shape[2:]
        padded = F.pad(x, [self._padding] * 4)
        return [
            padded[:, :, top : top + height, left : left + width] for top, left in self._corners
        ]


def _require_room(size: Sequence[int], padding: int) -> None:
    """Check that every crop shows some of an image.

    Raises:
        InputError: naming the option otherwise.
    """
    if min(size) <= padding:
        raise InputError(
            f"padding: {padding} is too much for images of {size[0]}x{size[1]}: a crop could miss "
            "the image; it must be below their shorter side"
        )
