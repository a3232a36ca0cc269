"""The three terms of the synthesis loss: class prior, feature statistics, total variation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import batchnorm_layers
from dfshield.errors import InputError


def single_or_double(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return a tensor in float32 if it is of lower precision, else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def class_prior_loss(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Equation 3: cross-entropy of the teacher's logits and the artificial labels, batch mean."""
    return F.cross_entropy(logits, labels)


class FeatureStatistics:
    """Equation 4: distance of a batch's statistics from those that the teacher's BatchNorm kept.

    For every BatchNorm layer ``l``, the per-channel mean and biased variance of the layer's *input*
    over batch and space are compared with the running mean and variance; the loss is
    ``sum_l ||mean_l - running_mean_l||_2 + ||var_l - running_var_l||_2``, with unsquared norms and
    no weights, as in the authors' code.

    Use it around forward passes::

        statistics = FeatureStatistics(network)
        with statistics.recording():
            logits = network(images)
            loss = statistics.loss()
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for _, layer in batchnorm_layers(network)]
        self._distances: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Watch the input of every BatchNorm layer inside the block; the hooks are then removed."""
        handles = [layer.register_forward_pre_hook(self._record) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        features = single_or_double(inputs[0])  # a network may choose autocast for itself
        axes = [axis for axis in range(features.ndim) if axis != 1]
        variance, mean = torch.var_mean(features, dim=axes, correction=0)
        offset, spread = mean - layer.running_mean, variance - layer.running_var
        self._distances.append(self._distance(offset, spread))

    def _distance(
        self, offset: Float[Tensor, " c"], spread: Float[Tensor, " c"]
    ) -> Float[Tensor, ""]:
        """Return the distance of a layer from the differences of its means and variances."""
        distance: Tensor = torch.linalg.vector_norm(offset) + torch.linalg.vector_norm(spread)
        return distance

    def loss(self) -> Float[Tensor, "*groups"]:
        """Return the sum over the layers of the forward pass since the last call.

        Raises:
            InputError: if no layer has run.
        """
        distances, self._distances = self._distances, []
        if not distances:
            raise InputError(
                "none of the classifier's BatchNorm layers runs in its forward pass, so there are "
                "no statistics to match (eq. 4)"
            )
        return torch.stack(distances).sum(dim=0)


class SquaredStatistics(FeatureStatistics):
    """The distance of statistics of GDFQ, Qimera and IntraQ, used as `FeatureStatistics` is.

    ``(1/L) sum_l MSE(mean_l, running_mean_l) + MSE(var_l, running_var_l)``: squared, averaged over
    the channels of a layer and over the L layers that ran, with biased variances.
    """

    def _distance(
        self, offset: Float[Tensor, " c"], spread: Float[Tensor, " c"]
    ) -> Float[Tensor, ""]:
        return offset.square().mean() + spread.square().mean()

    def loss(self) -> Float[Tensor, "*groups"]:
        """Return the mean over the layers of the forward pass since the last call.

        Raises:
            InputError: if no layer has run.
        """
        layers = len(self._distances)
        return super().loss() / layers


def total_variation(images: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Equation 5: neighbour differences along both axes and both diagonals.

    Each of the four is one Frobenius norm over the whole batch tensor, as in the authors' code, so
    the value grows like the square root of the batch size.
    """
    across = images[..., :, :-1] - images[..., :, 1:]
    down = images[..., :-1, :] - images[..., 1:, :]
    diagonal = images[..., :-1, :-1] - images[..., 1:, 1:]
    antidiagonal = images[..., 1:, :-1] - images[..., :-1, 1:]
    return torch.stack(
        [torch.linalg.vector_norm(d) for d in (across, down, diagonal, antidiagonal)]
    ).sum()
