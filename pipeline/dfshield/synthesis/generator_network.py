"""The generator of images that all synthesizers with a generator share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.seeds import RngStream, derived_seed, torch_generators


class GeneratorNetwork(nn.Module):
    """Codes to images in [0, 1], of any size, with or without classes.

    A linear layer makes a map of a quarter of the height and width, which is doubled twice (nearest
    neighbours) before 3x3 convolutions with BatchNorm and leaky ReLU; the last convolution is
    followed by a BatchNorm without weights and ``(1 + tanh) / 2``. This is the generator of
    Chen et al. (DAFL, 2019), GDFQ, Qimera and DFME but for the order of its last two layers, in
    which these differ, and for its range.

    The codes are made outside, of noise and, where there are classes, of rows of ``embedding``.

    Args:
        latent: dimension d of a code.
        image_shape: (c, h, w).
        num_classes: rows of the embedding; 0: there is none.
        width: channels of the maps; the last has half of them.

    Attributes:
        embedding: the codes of the classes, (k, d); None without classes.
    """

    def __init__(
        self,
        latent: int,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int = 0,
        width: int = 128,
    ) -> None:
        super().__init__()
        channels, *size = image_shape
        half = width // 2
        self._sides = [tuple(-(-side // part) for side in size) for part in (4, 2, 1)]
        self.embedding = nn.Embedding(num_classes, latent) if num_classes else None
        self.dense = nn.Linear(latent, width * self._sides[0][0] * self._sides[0][1])
        self.start = nn.BatchNorm2d(width)
        self.first = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, half, 3, padding=1), nn.BatchNorm2d(half), nn.LeakyReLU(0.2)
        )
        self.last = nn.Sequential(
            nn.Conv2d(half, channels, 3, padding=1), nn.BatchNorm2d(channels, affine=False)
        )

    def forward(self, codes: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """Return an image for every code. In train mode images of a batch depend on one another."""
        return pixels_of(self.preactivation(codes))

    def preactivation(self, codes: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """Return what `pixels_of` makes the images of."""
        smallest, middle, whole = self._sides
        maps = self.start(self.dense(codes).reshape(len(codes), -1, *smallest))
        maps = self.first(F.interpolate(maps, middle))
        maps = self.second(F.interpolate(maps, whole))
        found: Tensor = self.last(maps)
        return found


def pixels_of(preactivation: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return ``(1 + tanh(a)) / 2``: pixels in [0, 1] of any numbers."""
    pixels: Tensor = (1.0 + torch.tanh(preactivation)) / 2.0
    return pixels


def new_network(
    latent: int,
    image_shape: tuple[int, int, int],
    *,
    seed: int,
    num_classes: int = 0,
    width: int = 128,
) -> GeneratorNetwork:
    """Return a generator with torch's usual random weights, drawn from a run's seed, on the CPU."""
    place = derived_seed(seed, RngStream.GENERATOR)
    with torch_generators(place, torch.device("cpu")), torch.device("cpu"):
        return GeneratorNetwork(latent, image_shape, num_classes=num_classes, width=width)
