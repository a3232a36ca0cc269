"""Adversarial weight perturbation: gradients at the worst weights in a small neighbourhood."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfshield.errors import InputError
from dfshield.training.group import WorkerGroup

LARGEST = 0.1
"""Radius beyond which the perturbed student is another one."""


class WeightPerturbation:
    """Adversarial weight perturbation (Wu et al. 2020), once for a group of mini-batches.

    With the gradient g of the group's objective, summed over its mini-batches with their
    adversarial images, every weight w of two or more dimensions becomes in the block::

        w + radius ||w|| g / ||g||

    layer by layer (Frobenius norms); biases and BatchNorm's weights stay as they are. The gradients
    that are refined are taken there, the step from where the weights were. The authors perturb for
    every mini-batch; here the mini-batches of a group have their gradients at the same weights, as
    GradRefine asks. It costs a forward and a backward pass of every mini-batch.

    The workers of a group add up their gradients in float64, as `GradRefine` does: it does not
    matter who computed what.

    Args:
        weights: that are trained; those of two or more dimensions are perturbed.
        radius: above 0 and at most 0.1; 0.005 to 0.01 in the authors' recipes.
        group: the workers that train it.

    Raises:
        InputError: for a radius outside (0, 0.1].
    """

    def __init__(
        self, weights: Sequence[nn.Parameter], radius: float, *, group: WorkerGroup
    ) -> None:
        number = isinstance(radius, int | float) and not isinstance(radius, bool)
        if not number or not 0 < radius <= LARGEST:
            raise InputError(
                f"weight_perturbation: {radius!r} must be a number above 0 and at most {LARGEST}"
            )
        self.radius = float(radius)
        self._group = group
        self._weights = [weight for weight in weights if weight.ndim > 1]
        self._sizes = [p.numel() for p in self._weights]
        device = weights[0].device
        self._sum = torch.zeros(sum(self._sizes), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self) -> None:
        """Add what ``backward`` left on the weights as the gradient of one mini-batch."""
        for weight, total in zip(self._weights, self._totals(), strict=True):
            if weight.grad is not None:
                total += weight.grad.reshape(-1)

    def forget(self) -> None:
        """Forget what was added."""
        self._sum.zero_()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the weights be perturbed in the block; all workers of the group enter it together.

        Afterwards they are as they were, and what was added is forgotten.
        """
        if self._group.size > 1:
            self._group.all_reduce(self._sum)
        kept = [weight.detach().clone() for weight in self._weights]
        try:
            with torch.no_grad():
                for weight, total in zip(self._weights, self._totals(), strict=True):
                    weight.add_(self._of(weight, total))
            yield
        finally:
            self.forget()
            with torch.no_grad():
                for weight, before in zip(self._weights, kept, strict=True):
                    weight.copy_(before)

    def _totals(self) -> tuple[Tensor, ...]:
        return torch.split(self._sum, self._sizes)

    def _of(self, weight: Tensor, total: Tensor) -> Tensor:
        length = total.norm()
        if length == 0:
            return torch.zeros_like(weight)
        scale = self.radius * weight.double().norm() / length
        perturbation: Tensor = scale * total
        return perturbation.reshape(weight.shape).to(weight.dtype)
