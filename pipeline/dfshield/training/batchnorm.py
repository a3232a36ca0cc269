"""BatchNorm buffers that stand still inside a group of mini-batches and move when it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import batchnorm_layers


@dataclass(frozen=True, eq=False)
class _Record:
    """The batch statistics of one layer in one forward pass."""

    layer: int
    mean: Tensor
    variance: Tensor  # unbiased, as running variances are


class DeferredBatchNorm:
    """Train-mode forward passes whose statistics reach the running buffers only at `apply`.

    The weights of a group of mini-batches stand still until GradRefine's step; with this class the
    BatchNorm buffers do too, so the adversarial images of a group (crafted in eval mode) do not
    depend on the order of its mini-batches or on who computes them. The authors' code moves the
    buffers inside a group instead: a deviation, on purpose.

    Inside `recording` each layer is given scratch buffers and momentum 1, so that PyTorch's own
    forward pass leaves exactly the batch's mean and unbiased variance in them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for _, layer in batchnorm_layers(model)]
        self._records: list[_Record] = []

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
            self._records.append(_Record(index, layer.running_mean, layer.running_var))
            _give_scratch_buffers(layer)  # a layer may be used twice in one pass

        return hook

    @torch.no_grad()
    def apply(self) -> None:
        """Move the running buffers by every recorded pass, in their order, and forget them."""
        for record in self._records:
            layer = self._layers[record.layer]
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked += 1
            # momentum None is PyTorch's cumulative average.
            momentum = layer.momentum
            factor = 1.0 / float(layer.num_batches_tracked) if momentum is None else momentum
            layer.running_mean.mul_(1.0 - factor).add_(record.mean, alpha=factor)
            layer.running_var.mul_(1.0 - factor).add_(record.variance, alpha=factor)
        self._records = []


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
