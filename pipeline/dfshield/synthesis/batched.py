"""The fast path of the inversion: several batches in one pass, compiled, in lower precision."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import answer_of, batchnorm_layers
from dfshield.engine.acceleration import (
    Acceleration,
    channels_last,
    in_one_layout,
    require_compiled,
)
from dfshield.engine.cuda_graph import GraphedFunction
from dfshield.engine.fused_batchnorm import computed_once, fuse, fusible, moments, shifted_sums
from dfshield.synthesis.base import OnIteration
from dfshield.synthesis.draws import BatchDraws
from dfshield.synthesis.losses import FeatureStatistics, class_prior_loss, total_variation
from dfshield.synthesis.plain import InversionState, rate_of, restore


class _Record(NamedTuple):
    """What a BatchNorm layer has seen in a pass."""

    sums: Float[Tensor, "2 g c"]
    size: int
    running_var: Float[Tensor, " c"]


class GroupStatistics(FeatureStatistics):
    """Equation 4 for each of several batches that share a forward pass.

    Mean and variance come from one pass over a layer's input; see `moments`.

    Args:
        network: in eval mode; it is watched for good, so that its hooks can be compiled with it.
        groups: batches in a pass.
    """

    def __init__(self, network: nn.Module, groups: int) -> None:
        super().__init__(network)
        self._groups = groups
        self._records: list[_Record] = []
        for layer in self._layers:
            layer.register_forward_pre_hook(self._record)

    def loss(self) -> Float[Tensor, " g"]:
        """Return equation 4 for each batch; see `FeatureStatistics.loss`."""
        records, self._records = self._records, []
        if records:
            sums = computed_once(torch.cat([record.sums for record in records], dim=2))
            widths = [record.sums.shape[2] for record in records]
            for record, own in zip(records, torch.split(sums, widths, dim=2), strict=True):
                offset, variance = moments(own, record.size)
                self._distances.append(
                    torch.linalg.vector_norm(offset, dim=1)
                    + torch.linalg.vector_norm(variance - record.running_var, dim=1)
                )
        return super().loss()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        features = inputs[0]
        sums = shifted_sums(features, layer.running_mean, groups=self._groups)
        size = features.numel() // features.shape[1] // self._groups
        self._records.append(_Record(sums, size, layer.running_var))


class BatchedInversion:
    """The optimisation of several batches of one size in one pass: `optimise`, faster.

    Statistics, coefficients, shifts and total variation of the batches are kept apart, and in eval
    mode images do not touch one another, so each batch gets what it would have got alone, up to
    rounding.

    Args:
        network: takes normalised images; in eval mode, weights frozen. A copy of it is used.
        groups: batches in a pass.
        size: images in a batch.
        acceleration: what is allowed.
        image_shape: (c, h, w).

    Raises:
        CompilationError: if the pass is to be compiled and cannot be.
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
        for _, layer in batchnorm_layers(self._network):
            if fusible(layer):
                fuse(layer).hold()
        self._acceleration = acceleration
        self._device = next(network.parameters()).device
        self._objective = acceleration.compile(self._terms)
        probe = in_one_layout(torch.zeros(groups * size, *image_shape, device=self._device))
        labels = torch.zeros(groups * size, dtype=torch.int64, device=self._device)
        weights = torch.ones(groups, 3, device=self._device)
        self._replayed: GraphedFunction | None = None
        what = "the inversion of this classifier"
        if acceleration.compiled:
            require_compiled(lambda: self._gradient(probe, labels, weights), what, self._device)
        if acceleration.graphed:
            self._replayed = GraphedFunction(self._gradient, (probe, labels, weights), what)

    def _terms(
        self,
        images: Float[Tensor, "gn c h w"],
        labels: Int[Tensor, " gn"],
        weights: Float[Tensor, "g 3"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "g 4"]]:
        """Return the sum over the batches of equation 6, and the terms and the loss of each."""
        with self._acceleration.autocast(self._device):
            logits = answer_of(self._network, images)
        split = [_by_batch(part, self.groups) for part in (logits.float(), labels, images)]
        terms = torch.stack(
            [
                torch.stack([class_prior_loss(z, y) for z, y in zip(*split[:2], strict=True)]),
                self._statistics.loss(),
                torch.stack([total_variation(x) for x in split[2]]),
            ],
            dim=1,
        )
        totals = (weights * terms).sum(dim=1)
        return totals.sum(), torch.cat([terms, totals[:, None]], dim=1).detach()

    def _gradient(self, images: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        images = images.detach().requires_grad_()
        total, losses = self._objective(images, labels, weights)
        (gradient,) = torch.autograd.grad(total, [images])
        return gradient, losses

    def gradient_at(
        self, pixels: Float[Tensor, "gn c h w"], draws: Sequence[BatchDraws], iteration: int
    ) -> tuple[Float[Tensor, "gn c h w"], Float[Tensor, "g 4"]]:
        """Return the gradient with respect to the pixels, and the losses of each batch.

        Args:
            pixels: in normalised space, batch after batch.
            draws: of every batch.
            iteration: whose shifts count.
        """
        pixels = pixels.to(self._device).contiguous(memory_format=torch.channels_last)
        shift = [draw.shifts[iteration].tolist() for draw in draws]
        return self._shifted_gradient(pixels, *self._targets(draws), shift)

    def optimise(
        self,
        draws: Sequence[BatchDraws],
        *,
        learning_rate: float | Sequence[float],
        resume: InversionState | None = None,
        on_iteration: OnIteration | None = None,
    ) -> tuple[Float[Tensor, "gn c h w"], Float[Tensor, "g 4"]]:
        """Run the optimisation of all batches; see `optimise`.

        Args:
            draws: of every batch, as many as there are groups.
            learning_rate: Adam's; one for all iterations, or one for each.
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
        labels, weights = self._targets(draws)
        shifts = np.stack([d.shifts for d in draws], axis=1).tolist()
        first = rate_of(learning_rate, 0)
        optimizer = torch.optim.Adam([pixels], lr=first, betas=(0.9, 0.999), fused=True)
        no_losses = torch.zeros(self.groups, 4, device=device)
        losses, done = restore(resume, optimizer, no_losses)

        def state() -> InversionState:
            return InversionState(done, pixels.detach(), optimizer.state_dict(), losses)

        for shift in shifts[done:]:
            optimizer.param_groups[0]["lr"] = rate_of(learning_rate, done)
            pixels.grad, losses = self._shifted_gradient(pixels.detach(), labels, weights, shift)
            optimizer.step()
            done += 1
            if on_iteration is not None:
                on_iteration(done, state)
        return pixels.detach(), losses

    def _targets(
        self, draws: Sequence[BatchDraws]
    ) -> tuple[Int[Tensor, " gn"], Float[Tensor, "g 3"]]:
        """Return the labels of all batches and the weights of the terms of each."""
        labels = torch.cat([torch.from_numpy(d.labels) for d in draws])
        weights = torch.tensor([d.coefficients for d in draws], dtype=torch.float32)
        return labels.to(self._device), weights.to(self._device)

    def _shifted_gradient(
        self, pixels: Tensor, labels: Tensor, weights: Tensor, shift: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        rolled = self._rolled(pixels, shift)
        if self._replayed is None:
            gradient, losses = self._gradient(rolled, labels, weights)
        else:
            gradient, replayed = self._replayed(rolled, labels, weights)
            losses = replayed.clone()
        return self._rolled(gradient, [(-down, -right) for down, right in shift]), losses

    def _rolled(self, images: Tensor, shifts: Sequence[Sequence[int]]) -> Tensor:
        """Roll each batch's images by its shift (down, right).

        Not a part of what is compiled: the host knows the shifts, so that nothing waits for them,
        and whole rows are moved.
        """
        pixels = images.permute(0, 2, 3, 1)  # as they lie in memory, and shall lie again
        rolled = [
            torch.roll(batch, tuple(shift), dims=(1, 2))
            for batch, shift in zip(pixels.chunk(self.groups), shifts, strict=True)
        ]
        return torch.cat(rolled).permute(0, 3, 1, 2)


def _by_batch(tensor: Tensor, groups: int) -> Tensor:
    """Return (gn, ...) as (g, n, ...)."""
    return tensor.reshape(groups, -1, *tensor.shape[1:])
