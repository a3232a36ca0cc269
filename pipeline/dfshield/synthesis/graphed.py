"""The plain gradient of the inversion, replayed from a CUDA graph."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.engine.cuda_graph import GraphedFunction
from dfshield.synthesis.losses import FeatureStatistics
from dfshield.synthesis.plain import gradient_of


class GraphedGradient:
    """`gradient_of` for batches of one size: the same kernels, so the same numbers.

    The roll stays outside: the host knows the shifts, which differ in every iteration.

    Args:
        network: see `optimise`.
        size: images in a batch.
        image_shape: (c, h, w).

    Raises:
        CompilationError: if it cannot be recorded; see `GraphedFunction`.
    """

    def __init__(self, network: nn.Module, *, size: int, image_shape: tuple[int, int, int]) -> None:
        device = next(network.parameters()).device
        statistics = FeatureStatistics(network)

        def compute(images: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
            return gradient_of(
                network,
                statistics,
                images.detach().requires_grad_(),
                labels=labels,
                weights=weights,
                shift=(0, 0),
            )

        examples = (
            torch.zeros(size, *image_shape, device=device),
            torch.zeros(size, dtype=torch.int64, device=device),
            torch.ones(3, device=device),
        )
        with statistics.recording():
            self._replayed = GraphedFunction(compute, examples, "the inversion of this classifier")

    def __call__(
        self,
        pixels: Float[Tensor, "n c h w"],
        *,
        labels: Int[Tensor, " n"],
        weights: Float[Tensor, "3"],
        shift: Sequence[int],
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "4"]]:
        """Return gradient and losses; see `gradient_of`."""
        down, right = shift
        rolled = torch.roll(pixels.detach(), (down, right), dims=(2, 3))
        gradient, losses = self._replayed(rolled, labels, weights)
        return torch.roll(gradient, (-down, -right), dims=(2, 3)), losses.clone()
