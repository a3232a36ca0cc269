"""BatchNorm buffers that stand still inside a group of mini-batches and move when it ends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.brief import Brief
from dfshield.classifiers import batchnorm_layers
from dfshield.engine.fused_batchnorm import fusible


@dataclass(frozen=True, eq=False, repr=False)
class BatchNormRecords(Brief):
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

    Inside `recording`, a layer that moves its buffers is given scratch copies of them, and momentum
    1, while it runs, so that PyTorch's own forward pass leaves exactly the batch's mean and
    unbiased variance in them. Whoever else reads the buffers reads the real ones. A layer that is
    in eval mode, or does not track statistics, is left to compute as it does.

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
        self._set_aside: dict[int, Callable[[], None]] = {}  # puts back a running layer's buffers

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let train-mode passes of the model inside the block leave its buffers alone."""
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                stack.callback(self._put_back, index)
                handle = layer.register_forward_pre_hook(self._before(index))
                stack.callback(handle.remove)
                # First, so that other hooks find the real buffers.
                handle = layer.register_forward_hook(self._after(index), prepend=True)
                stack.callback(handle.remove)
            yield

    def _before(self, index: int) -> Callable[[nn.Module, object], None]:
        def hook(layer: nn.Module, _inputs: object) -> None:
            assert isinstance(layer, _BatchNorm)
            self._put_back(index)  # of a pass that failed
            if layer.training and layer.track_running_stats:
                self._set_aside[index] = _restorer(layer)
                _give_scratch_buffers(layer)

        return hook

    def _after(self, index: int) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, _inputs: object, _output: object) -> None:
            assert isinstance(layer, _BatchNorm)
            if index not in self._set_aside:
                return
            left = [layer.running_mean, layer.running_var]
            self._put_back(index)
            # A forward pass of another kind may have left them alone, though in train mode.
            if fusible(layer) or not _same(left, [layer.running_mean, layer.running_var]):
                self._recorded.append(index)
                self._statistics += [statistic for statistic in left if statistic is not None]

        return hook

    def _put_back(self, index: int) -> None:
        restore = self._set_aside.pop(index, None)
        if restore is not None:
            restore()

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
        for index, pair in self._pairs(records):
            layer = self._layers[index]
            mean, variance = pair.chunk(2)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked += 1
            factor = _averaging_factor(layer)
            if factor != 0.0:
                layer.running_mean.mul_(1.0 - factor).add_(mean, alpha=factor)
                layer.running_var.mul_(1.0 - factor).add_(variance, alpha=factor)

    @torch.no_grad()
    def settle(self, records: Sequence[BatchNormRecords], sizes: Sequence[int]) -> None:
        """Set the running buffers to the mean of recorded passes; what has no record stays.

        Args:
            records: of every pass, on the model's device.
            sizes: images of every pass, by which it counts.
        """
        sums: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for record, size in zip(records, sizes, strict=True):
            for index, pair in self._pairs(record):
                sums[index] = sums.get(index, 0.0) + size * pair.double()
                counts[index] = counts.get(index, 0) + size
        for index, total in sums.items():
            layer = self._layers[index]
            mean, variance = (total / counts[index]).chunk(2)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)

    def _pairs(self, records: BatchNormRecords) -> Iterator[tuple[int, Tensor]]:
        """Yield the layer of each record, and its mean and variance end to end."""
        lengths = [2 * self._layers[index].num_features for index in records.layers]
        yield from zip(records.layers, torch.split(records.statistics, lengths), strict=True)


def _averaging_factor(layer: _BatchNorm) -> float:
    if layer.momentum is not None:
        return layer.momentum
    # PyTorch's cumulative average, which stands still where passes are not counted.
    return 0.0 if layer.num_batches_tracked is None else 1.0 / float(layer.num_batches_tracked)


def _same(some: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _give_scratch_buffers(layer: _BatchNorm) -> None:
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        buffer = getattr(layer, name)
        setattr(layer, name, None if buffer is None else buffer.clone())
    layer.momentum = 1.0


def _restorer(layer: _BatchNorm) -> Callable[[], None]:
    mean, variance = layer.running_mean, layer.running_var
    tracked, momentum = layer.num_batches_tracked, layer.momentum

    def restore() -> None:
        layer.running_mean, layer.running_var = mean, variance
        layer.num_batches_tracked, layer.momentum = tracked, momentum

    return restore
