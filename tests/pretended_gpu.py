"""A GPU that is only pretended: its tensors compute on the CPU, and what a GPU minds is noted.

Its device is called ``meta``. Tensors on it hold real numbers, so that code which looks at them
goes on as it would; operations on tensors of both kinds are refused as CUDA refuses them, and every
place where the host would wait for the GPU is noted.
"""

import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
# They return numbers, or tensors whose shape depends on numbers.
READS = {
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
PACKAGE = f"{Path('pipeline', 'dfshield')}"


class MixedDevicesError(AssertionError):
    """An operation on tensors of both devices."""


class OnGpu(Tensor):
    """A tensor on the pretended GPU; with its ``numbers``."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "OnGpu":
        with _disable_current_modes():
            outside = torch.empty_strided(
                numbers.shape, numbers.stride(), dtype=numbers.dtype, device=GPU
            )
            made = Tensor._make_subclass(cls, outside)
        made.numbers = numbers
        return made

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the block in which the GPU is pretended")


class PretendedGpu(TorchDispatchMode):
    """The GPU, while the block lasts.

    Attributes:
        waits: the places in the package where the host waited, each with the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    @contextmanager
    def never_waiting(self):
        """Let nothing in the block wait."""
        before = len(self.waits)
        yield
        assert self.waits[before:] == []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        flat = tree_flatten((args, kwargs))[0]
        on_gpu = [tensor for tensor in flat if isinstance(tensor, OnGpu)]
        others = [t for t in flat if isinstance(t, Tensor) and not isinstance(t, OnGpu) and t.ndim]
        self._look(func, args, on_gpu, others, device)
        known = {id(tensor.numbers): tensor for tensor in on_gpu}
        plain = tree_map(lambda t: t.numbers if isinstance(t, OnGpu) else t, (args, kwargs))
        result = func(*plain[0], **plain[1])
        there = bool(on_gpu) if device is None else torch.device(device) == GPU
        if func is aten.copy_.default:
            return args[0]
        return tree_map(lambda t: _placed(t, known, there=there), result)

    def _look(self, func, args, on_gpu, others, device) -> None:
        if func in COPIES:
            moved = bool(others) and bool(on_gpu)  # copy_ from one to the other
            if device is not None:
                moved = (torch.device(device) == GPU) != bool(on_gpu)
            if moved:
                self._wait(func)
            return
        if not on_gpu:
            return
        if func in READS:
            self._wait(func)
        elif func in INDEXED:
            indices = [i for i in args[1] if i is not None]
            if any(i.dtype == torch.bool or not isinstance(i, OnGpu) for i in indices):
                self._wait(func)
        elif others:
            raise MixedDevicesError(f"{func}: tensors on the CPU and on the GPU")

    def _wait(self, func: Callable[..., object]) -> None:
        frames = [f for f in traceback.extract_stack() if PACKAGE in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "elsewhere"
        self.waits.append(f"{place} {func}")


def tensor(data: object, *, device: object = None, **options: object) -> Tensor:
    """Stand in for ``torch.tensor``, which puts numbers onto a device where no mode sees it."""
    made = _TENSOR(data, **options)
    return made if device is None else made.to(device)


_TENSOR = torch.tensor


def _placed(value: object, known: dict[int, OnGpu], *, there: bool) -> object:
    """Return a result as the tensor that it is an alias of, or on the device where it belongs."""
    if not isinstance(value, Tensor):
        return value
    if id(value) in known:
        return known[id(value)]
    return OnGpu(value) if there else value


def moved(module: nn.Module) -> nn.Module:
    """Put a module's weights and buffers onto the pretended GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                weights = nn.Parameter(OnGpu(parameter.detach().clone()), parameter.requires_grad)
                part._parameters[name] = weights
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnGpu(buffer.clone())
    return module
