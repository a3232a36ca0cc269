"""The generators of the baselines, for images of any size and any number of classes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.seeds import RngStream, derived_seed, torch_generators
from dfshield.synthesis.generator_network import GeneratorNetwork, pixels_of

PUBLISHED_SIDE = 32
"""Height and width of the images that the published generators make."""


class BranchedNetwork(nn.Module):
    """DaST's generator: one branch of layers for every class, and a trunk that all share.

    A branch takes a code as a 1x1 map: a 3x3 convolution, then transposed convolutions (4x4,
    stride 2) with BatchNorm and ReLU, each of which doubles the sides. The trunk has 3x3
    convolutions with BatchNorm and ReLU, and a sigmoid at its end.

    Args:
        image_shape: (c, h, w). There are as many doublings as its longer side needs, 5 for 32; the
            middle of the map is taken where it is larger than the image.
        num_classes: branches.
        width: components of a code, and channels of a branch; 128 as published.

    Attributes:
        changed: how it differs from the published network.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], *, num_classes: int, width: int = 128
    ) -> None:
        super().__init__()
        channels, height, width_of_image = image_shape
        self._size = height, width_of_image
        doublings = (max(self._size) - 1).bit_length()
        self.branches = nn.ModuleList(_branch(width, doublings) for _ in range(num_classes))
        half = max(1, width // 2)
        widths = (width, 2 * width, 4 * width, 2 * width, width, half, channels)
        layers = [
            layer
            for before, after in pairwise(widths)
            for layer in (
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
        ]
        self.trunk = nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, padding=1))
        self.changed = _changed(
            (doublings != 5, f"{doublings} doublings of the sides in place of 5"),
            (
                self._size != (2**doublings,) * 2,
                f"the middle {height}x{width_of_image} of maps of {2**doublings}x{2**doublings}",
            ),
            (channels != 3, f"{channels} colour channels in place of 3"),
            (num_classes != 10, f"{num_classes} branches in place of 10"),
            (width != 128, f"{width} channels in place of 128"),
        )

    def forward(
        self, codes: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return an image in [0, 1] for every code, made by the branch of its label."""
        made, places = [], []
        for label, branch in enumerate(self.branches):
            rows = torch.nonzero(labels == label).flatten()
            if len(rows):
                made.append(branch(codes[rows, :, None, None]))
                places.append(rows)
        maps = torch.cat(made)[torch.argsort(torch.cat(places))]
        top, left = (
            (maps.shape[axis] - side) // 2 for axis, side in zip((2, 3), self._size, strict=True)
        )
        height, width = self._size
        middle = maps[:, :, top : top + height, left : left + width]
        return torch.sigmoid(self.trunk(middle))


def _branch(width: int, doublings: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(width, width, 3, padding=1)]
    for _ in range(doublings):
        layers += [
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class AuxiliaryClassifierNetwork(nn.Module):
    """The generator of AC-GAN for CIFAR-10 (Odena et al. 2017), for images of any size.

    Noise and the label, one-hot, go through a linear layer to a map of an eighth of the sides;
    three transposed convolutions (5x5, stride 2) double them, with BatchNorm and ReLU between;
    ``(1 + tanh) / 2`` ends it.

    Args:
        latent: components of the noise.
        image_shape: (c, h, w).
        num_classes: of the labels.
        width: channels of the first map; 384 as published. The others have a half and a quarter.

    Attributes:
        changed: how it differs from the published network.
    """

    def __init__(
        self,
        latent: int,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int,
        width: int = 384,
    ) -> None:
        super().__init__()
        channels, *size = image_shape
        self._sides = [tuple(-(-side // part) for side in size) for part in (8, 4, 2, 1)]
        self._classes, self._width = num_classes, width
        half, quarter = max(1, width // 2), max(1, width // 4)
        first = self._sides[0]
        self.dense = nn.Linear(latent + num_classes, width * first[0] * first[1])
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2)
            for before, after in ((width, half), (half, quarter), (quarter, channels))
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(half), nn.BatchNorm2d(quarter)])
        self.changed = _changed(
            (
                tuple(size) != (PUBLISHED_SIDE,) * 2,
                f"maps of {', '.join(f'{h}x{w}' for h, w in self._sides)} in place of 4x4, 8x8, "
                "16x16, 32x32",
            ),
            (channels != 3, f"{channels} colour channels in place of 3"),
            (num_classes != 10, f"labels of {num_classes} classes in place of 10"),
            (width != 384, f"{width} channels in place of 384"),
            (latent != 100, f"noise of {latent} components in place of 100"),
        )

    def forward(
        self, noise: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return an image in [0, 1] for every row of noise and its label."""
        codes = torch.cat([noise, F.one_hot(labels, self._classes).to(noise.dtype)], dim=1)
        maps = F.relu(self.dense(codes).reshape(len(codes), self._width, *self._sides[0]))
        for layer, norm, side in zip(self.layers, self.norms, self._sides[1:], strict=False):
            maps = F.relu(norm(layer(maps, output_size=list(side))))
        return pixels_of(self.layers[-1](maps, output_size=list(self._sides[-1])))


class NormalisedNetwork(GeneratorNetwork):
    """GDFQ's generator, which AIT uses: it ends in tanh and a BatchNorm, in the teacher's scale.

    ``preactivation`` gives normalised images, of any range; calling it gives images in [0, 1].

    Args:
        latent: components of a code.
        image_shape: (c, h, w).
        num_classes: rows of the embedding.
        width: channels of the maps; 128 as published.
        mean: the teacher's, (1, c, 1, 1).
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        latent: int,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int,
        width: int,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        super().__init__(latent, image_shape, num_classes=num_classes, width=width)
        convolution, norm = self.last
        self.last = nn.Sequential(convolution, nn.Tanh(), norm)
        self.register_buffer("mean", mean.detach().cpu().clone())
        self.register_buffer("std", std.detach().cpu().clone())

    def forward(self, codes: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """Return an image in [0, 1] for every code: denormalised and clipped."""
        return self.pixels(self.preactivation(codes))

    def pixels(self, normalised: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return normalised images on the [0, 1] scale, clipped to it."""
        return (normalised * self.std + self.mean).clamp(0.0, 1.0)


def changes_of(
    image_shape: Sequence[int], *, width: int, latent: int, published_latent: int
) -> tuple[str, ...]:
    """Return how a `GeneratorNetwork` for images of a shape differs from the published one."""
    channels, *size = image_shape
    first = "x".join(str(-(-side // 4)) for side in size)
    return _changed(
        (tuple(size) != (PUBLISHED_SIDE,) * 2, f"a first map of {first} in place of 8x8"),
        (channels != 3, f"{channels} colour channels in place of 3"),
        (width != 128, f"{width} channels in place of 128"),
        (
            latent != published_latent,
            f"codes of {latent} components in place of {published_latent}",
        ),
    )


def drawn_from(seed: int) -> AbstractContextManager[None]:
    """Return a block in which networks draw their weights from a run's seed, on the CPU."""
    return torch_generators(derived_seed(seed, RngStream.BASELINE, 0, 1), torch.device("cpu"))


def _changed(*differences: tuple[bool, str]) -> tuple[str, ...]:
    return tuple(words for differs, words in differences if differs)
