"""BatchNorm buffers that stand still inside a group of mini-batches and move when it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import batchnorm_layers


@dataclass(frozen=True, eq=False)
class BatchNormRecords:
    """Batch statistics of train-mode passes, in their order.

    Attributes:
        layers: index, among the model's BatchNorm layers, of the layer of each record.
        statistics: mean and unbiased variance (as running variances are) of each record, end to
            end.
    """

    layers: tuple[int, ...]
    statistics: Float[Tensor, " n"]

    def to(self, device: torch.device | str) -> "BatchNormRecords":
        """Return the records with their statistics on a device."""
        return BatchNormRecords(self.layers, self.statistics.to(device))


class DeferredBatchNorm:
    """Train-mode forward passes whose statistics reach the running buffers only at `apply`.

    The weights of a group of mini-batches stand still until GradRefine's step; with this class the
    BatchNorm buffers do too, so the adversarial images of a group (crafted in eval mode) do not
    depend on the order of its mini-batches or on who computes them. The authors' code moves the
    buffers inside a group instead: a deviation, on purpose.

    Inside `recording` each layer is given scratch buffers and momentum 1, so that PyTorch's own
    forward pass leaves exactly the batch's mean and unbiased variance in them.

    Usage::

        deferred = DeferredBatchNorm(model)
        for x in group:
            with deferred.recording():
                model(x)
            records.append(deferred.take())
        for record in records:            # in the order of the mini-batches
            deferred.apply(record)
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for _, layer in batchnorm_layers(model)]
        self._recorded: list[int] = []
        self._statistics: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let train-mode passes of the model inside the block leave its buffers alone."""
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                stack.callback(_restorer(layer))
                handle = layer.register_forward_hook(self._record(index))
                stack.callback(handle.remove)
                layer.num_batches_tracked = None
                layer.momentum = 1.0
                _give_scratch_buffers(layer)
            yield

    def _record(self, index: int) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, _inputs: object, _output: object) -> None:
            assert isinstance(layer, _BatchNorm)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            self._recorded.append(index)
            self._statistics += [layer.running_mean, layer.running_var]
            _give_scratch_buffers(layer)  # a layer may be used twice in one pass

        return hook

    def add(self, records: BatchNormRecords) -> None:
        """Take what was recorded elsewhere, in a pass after those recorded here."""
        self._recorded += records.layers
        self._statistics.append(records.statistics)

    def take(self) -> BatchNormRecords:
        """Return what was recorded since the last call, on the model's device, and forget it."""
        layers, statistics = tuple(self._recorded), self._statistics
        self._recorded, self._statistics = [], []
        return BatchNormRecords(layers, torch.cat(statistics) if statistics else torch.empty(0))

    @torch.no_grad()
    def apply(self, records: BatchNormRecords) -> None:
        """Move the running buffers by every recorded pass, in their order.

        Args:
            records: what this model or a copy of it in another process recorded, on its device.
        """
        layers = [self._layers[index] for index in records.layers]
        pairs = torch.split(records.statistics, [2 * layer.num_features for layer in layers])
        for layer, pair in zip(layers, pairs, strict=True):
            mean, variance = pair.chunk(2)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked += 1
            # momentum None is PyTorch's cumulative average.
            momentum = layer.momentum
            factor = 1.0 / float(layer.num_batches_tracked) if momentum is None else momentum
            layer.running_mean.mul_(1.0 - factor).add_(mean, alpha=factor)
            layer.running_var.mul_(1.0 - factor).add_(variance, alpha=factor)


def _give_scratch_buffers(layer: _BatchNorm) -> None:
    assert layer.running_mean is not None
    layer.running_mean = torch.zeros_like(layer.running_mean)
    layer.running_var = torch.zeros_like(layer.running_mean)


def _restorer(layer: _BatchNorm) -> Callable[[], None]:
    mean, variance = layer.running_mean, layer.running_var
    tracked, momentum = layer.num_batches_tracked, layer.momentum

    def restore() -> None:
        layer.running_mean, layer.running_var = mean, variance
        layer.num_batches_tracked, layer.momentum = tracked, momentum

    return restore
