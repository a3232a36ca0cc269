"""A small score network of a variance-preserving diffusion, and its training on images."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.checks import at_least, positive
from dfshield.defences.diffusion import BETA_FIRST, BETA_LAST, END
from dfshield.errors import InputError
from dfshield.pixels import require_images
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators

GROUPS = 4


class ScoreNetwork(nn.Module):
    """Tells the noise in diffused images of any size: a residual U-net of two resolutions.

    The score is ``-noise / sqrt(1 - abar(t))``.

    Args:
        channels: of the images.
        width: channels of its convolutions, a multiple of 4.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = _Block(width, width)
        self.low = _Block(width, width)
        self.middle = _Block(width, width)
        self.last = _Block(2 * width, width, time=width)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.stem.in_channels

    def forward(
        self, x: Float[Tensor, "n c h w"], t: Float[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return the noise in images that are diffused to a time in [0, 1]."""
        half = self.stem.out_channels // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half, device=x.device).to(x) / half)
        angles = 1000 * t[:, None] * rates
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        fine = self.first(self.stem(x), time)
        coarse = F.avg_pool2d(fine, 2, ceil_mode=True)
        coarse = self.middle(self.low(coarse, time), time)
        large = F.interpolate(coarse, x.shape[2:], mode="nearest")
        found: Tensor = self.head(F.silu(self.norm(self.last(torch.cat([fine, large], 1), time))))
        return found


class _Block(nn.Module):
    """Two convolutions on normalised values, the time added between them, around a shortcut."""

    def __init__(self, inputs: int, width: int, *, time: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.time = nn.Linear(time or width, width)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1)

    def forward(
        self, x: Float[Tensor, "n a h w"], time: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n b h w"]:
        hidden = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        found: Tensor = self.shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))
        return found


def train_score(
    images: Float[Tensor, "n c h w"],
    *,
    width: int = 32,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_epoch: Callable[[], None] = lambda: None,
) -> ScoreNetwork:
    """Return a score network trained on images by denoising (Ho et al. 2020; Song et al. 2021).

    ``E |e(sqrt(abar(t)) x + sqrt(1 - abar(t)) n, t) - n|^2`` over times in [0, 1] and noise n, by
    Adam. DiffPure wants images like those that it is to defend, but not these.

    Args:
        images: in [0, 1].
        width: of the network, a multiple of 4.
        epochs: over the images.
        batch_size: images in a step.
        learning_rate: Adam's.
        seed: of weights, order, times and noise.
        on_epoch: called after every epoch.

    Raises:
        InputError: for no images, or an option that makes no sense.
    """
    require_images(images)
    if len(images) == 0 or at_least(4, width, "width") % GROUPS:
        raise InputError("images, width: give at least one image, and a multiple of 4")
    at_least(1, epochs, "epochs")
    at_least(1, batch_size, "batch_size")
    positive(learning_rate, "learning_rate")
    images = 2 * images.detach().float() - 1
    device = images.device
    with torch.enable_grad(), torch_generators(derived_seed(seed, RngStream.DEFENCE, 3), device):
        network = ScoreNetwork(images.shape[1], width).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        for epoch in range(epochs):
            order = generator(seed, RngStream.DEFENCE, 3, epoch).permutation(len(images))
            for places in torch.split(torch.from_numpy(order).to(device), batch_size):
                loss = _denoising_loss(network, images[places])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
            on_epoch()
    return network.eval().requires_grad_(False)


def _denoising_loss(network: ScoreNetwork, x: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    t = END + (1 - END) * torch.rand(len(x), device=x.device)
    left = torch.exp(-(BETA_FIRST * t + (BETA_LAST - BETA_FIRST) * t**2 / 2)).view(-1, 1, 1, 1)
    noise = torch.randn_like(x)
    return F.mse_loss(network(left.sqrt() * x + (1 - left).sqrt() * noise, t), noise)
