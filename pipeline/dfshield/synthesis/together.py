"""The fast path of the inversion: several batches in one pass, compiled, in lower precision."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.acceleration import Acceleration, channels_last, works
from dfshield.synthesis.draws import BatchDraws
from dfshield.synthesis.losses import FeatureStatistics, class_prior_loss, total_variation
from dfshield.synthesis.plain import InversionState, OnIteration, restored


class GroupStatistics(FeatureStatistics):
    """Equation 4 for each of several batches that share a forward pass.

    Mean and variance come from one pass over a layer's input x, with its running mean as the
    shift: with d = x - running_mean, the mean is off by E[d] and the variance is E[d^2] - E[d]^2.
    That is safe in float32 where plain E[x^2] - E[x]^2 is not, since images that match the
    statistics have means close to the running ones.

    Args:
        network: in eval mode; it is watched for good, so that its hooks can be compiled with it.
        groups: batches in a pass.
    """

    def __init__(self, network: nn.Module, groups: int) -> None:
        super().__init__(network)
        self._groups = groups
        for layer in self._layers:
            layer.register_forward_pre_hook(self._record)

    def forget(self) -> None:
        """Forget what a pass that was not finished has left."""
        self._distances = []

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        features = inputs[0]
        shape = [1, -1] + [1] * (features.ndim - 2)
        shifted = features.float() - layer.running_mean.view(shape)
        shifted = _apart(shifted, self._groups)
        axes = [axis for axis in range(shifted.ndim) if axis not in (0, 2)]
        offset = shifted.mean(axes)
        variance = shifted.square().mean(axes) - offset.square()
        self._distances.append(
            torch.linalg.vector_norm(offset, dim=1)
            + torch.linalg.vector_norm(variance - layer.running_var, dim=1)
        )


class Together:
    """Optimises as many batches of one size at once as it is built for: `optimise`'s fast twin.

    Statistics, coefficients, shifts and total variation of the batches are kept apart, and in eval
    mode images do not touch one another, so each batch gets what it would have got alone, up to
    rounding.

    Args:
        network: takes normalised images; in eval mode, weights frozen. A copy of it is used.
        groups: batches in a pass.
        size: images in a batch.
        acceleration: what is allowed.
        image_shape: (c, h, w).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        groups: int,
        size: int,
        image_shape: tuple[int, int, int],
        acceleration: Acceleration,
    ) -> None:
        self.groups = groups
        self._network = channels_last(copy.deepcopy(network))
        self._statistics = GroupStatistics(self._network, groups)
        self._acceleration = acceleration
        self._device = next(network.parameters()).device
        self._objective = acceleration.compile(self._terms)
        probe = torch.zeros(groups * size, *image_shape, device=self._device)
        shifts = torch.zeros(groups, 2, dtype=torch.int64, device=self._device)
        labels = torch.zeros(groups * size, dtype=torch.int64, device=self._device)
        weights = torch.ones(groups, 3, device=self._device)
        if acceleration.compiled and not works(
            lambda: self._gradient(probe, shifts, labels, weights),
            "the inversion of this classifier",
        ):
            self._objective = self._terms
            self._statistics.forget()

    def _terms(
        self,
        images: Float[Tensor, "gn c h w"],
        shifts: Int[Tensor, "g 2"],
        labels: Int[Tensor, " gn"],
        weights: Float[Tensor, "g 3"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "g 4"]]:
        """Return the sum over the batches of equation 6, and the terms and the loss of each."""
        images = _Roll.apply(images, shifts)  # type: ignore[no-untyped-call]
        with self._acceleration.autocast(self._device):
            logits = self._network(images)
        apart = [_apart(part, self.groups) for part in (logits.float(), labels, images)]
        terms = torch.stack(
            [
                torch.stack([class_prior_loss(z, y) for z, y in zip(*apart[:2], strict=True)]),
                self._statistics.loss(),
                torch.stack([total_variation(x) for x in apart[2]]),
            ],
            dim=1,
        )
        totals = (weights * terms).sum(dim=1)
        return totals.sum(), torch.cat([terms, totals[:, None]], dim=1).detach()

    def _gradient(
        self, pixels: Tensor, shifts: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, losses = self._objective(pixels.requires_grad_(), shifts, labels, weights)
        (gradient,) = torch.autograd.grad(total, [pixels])
        return gradient, losses

    def optimise(
        self,
        draws: Sequence[BatchDraws],
        *,
        learning_rate: float,
        resume: InversionState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> tuple[Float[Tensor, "gn c h w"], Float[Tensor, "g 4"]]:
        """Run the optimisation of all batches; see `optimise`.

        Args:
            draws: of every batch, as many as there are groups.
            learning_rate: Adam's.
            resume: the state of them all to go on from.
            on_iteration: called after each iteration.

        Returns:
            The pixels in normalised space, batch after batch, and the last losses of each batch.
        """
        device = self._device
        start = (
            torch.cat([torch.from_numpy(d.noise) for d in draws])
            if resume is None
            else resume.pixels.clone()
        )
        pixels = start.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
        labels = torch.cat([torch.from_numpy(d.labels) for d in draws]).to(device)
        weights = torch.tensor([d.coefficients for d in draws], dtype=torch.float32, device=device)
        shifts = torch.stack([torch.from_numpy(d.shifts) for d in draws], dim=1).to(device)
        optimizer = torch.optim.Adam([pixels], lr=learning_rate, betas=(0.9, 0.999), fused=True)
        no_losses = torch.zeros(self.groups, 4, device=device)
        losses, done = restored(resume, optimizer, no_losses)

        def state() -> InversionState:
            return InversionState(done, pixels.detach(), optimizer.state_dict(), losses)

        for shift in shifts[done:]:
            pixels.grad, losses = self._gradient(pixels, shift, labels, weights)
            optimizer.step()
            done += 1
            if on_iteration is not None:
                on_iteration(done, state)
        return pixels.detach(), losses


def _apart(tensor: Tensor, groups: int) -> Tensor:
    """Return (gn, ...) as (g, n, ...)."""
    return tensor.reshape(groups, -1, *tensor.shape[1:])


class _Roll(torch.autograd.Function):
    """`_rolled` with its gradient: rolled back, where autograd would add it up pixel by pixel."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, shifts: Tensor) -> Tensor:
        ctx.save_for_backward(shifts)
        return _rolled(images, shifts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (shifts,) = ctx.saved_tensors
        return _rolled(gradient, -shifts), None


def _rolled(
    images: Float[Tensor, "gn c h w"], shifts: Int[Tensor, "g 2"]
) -> Float[Tensor, "gn c h w"]:
    """Roll each batch's images by its shift (down, right), by index, so that nothing is waited for.

    Where the batches share a pass, the shift is data: no host has to know it.
    """
    height, width = images.shape[-2:]
    down, right = shifts[:, :1], shifts[:, 1:]
    rows = (torch.arange(height, device=images.device) - down) % height
    columns = (torch.arange(width, device=images.device) - right) % width
    group = torch.arange(len(shifts), device=images.device).view(-1, 1, 1, 1)
    # Channels last: pixels are moved whole.
    grouped = _apart(images.permute(0, 2, 3, 1), len(shifts))
    image = torch.arange(grouped.shape[1], device=images.device).view(1, -1, 1, 1)
    moved: Tensor = grouped[group, image, rows[:, None, :, None], columns[:, None, None, :]]
    return moved.flatten(0, 1).permute(0, 3, 1, 2)
