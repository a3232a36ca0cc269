"""The plain kernels of a pass, recorded once as a CUDA graph and replayed: no launch of their own.

Small networks are bound by what the host takes to launch kernels. A graph launches all of a pass at
once, the same kernels on the same memory, so that its numbers are those of the plain pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen, in_float32
from dfshield.engine.acceleration import CompilationError

Result = TypeVar("Result")
WARM_UP = 3
"""Calls before one is recorded: what a first one sets up cannot be. As torch's documentation has
it."""


class GraphedFunction:
    """A function of tensors of fixed shapes whose work on a GPU is recorded once and replayed.

    Args:
        function: computes by its arguments alone, and by tensors that stay where they are; it may
            not wait for the GPU.
        examples: of its arguments, on the GPU; they are not touched.
        what: is recorded, for the message.

    Raises:
        CompilationError: if its work cannot be recorded.
        torch.OutOfMemoryError: as it comes.
        torch.AcceleratorError: likewise: this process cannot use its GPU any more.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], examples: Sequence[Tensor], what: str
    ) -> None:
        self._inputs = [example.detach().clone() for example in examples]
        device = self._inputs[0].device
        with _recording(what, device):
            _warm_up(lambda: function(*self._inputs), device)
            self._graph, self._outputs = _recorded(lambda: function(*self._inputs))

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the function would; the next call overwrites it."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._outputs


class GraphedModel(nn.Module):
    """A model whose passes of so many images are replayed in eval mode, there and back.

    It is called as the model is. Others, and those without a gradient, are computed as ever, by the
    same kernels. Weights and buffers are the model's own, as they are when a pass begins; they must
    stay where they are.

    Args:
        model: takes images in [0, 1]; its weights get no gradient through a replayed pass.
        image_shape: (c, h, w).
        size: images in a pass that is recorded.

    Raises:
        CompilationError: if its passes cannot be recorded; see `GraphedFunction`.
    """

    _logits: Tensor

    def __init__(self, model: nn.Module, *, image_shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self._model, self._size = in_float32(model), size
        device = next(model.parameters()).device
        self._images = torch.zeros(size, *image_shape, device=device, requires_grad=True)
        with frozen(model), torch.enable_grad(), _recording("this student", device):
            _warm_up(lambda: self._gradient_of(self._model(self._images).sum()), device)
            pool = torch.cuda.graph_pool_handle()
            self._there, self._logits = _recorded(lambda: self._model(self._images), pool)
            self._upstream = torch.zeros_like(self._logits)
            self._back, self._gradient = _recorded(
                lambda: self._gradient_of(self._logits, self._upstream), pool
            )

    def _gradient_of(self, outputs: Tensor, upstream: Tensor | None = None) -> Tensor:
        (gradient,) = torch.autograd.grad(outputs, [self._images], upstream)
        return gradient

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        replayed = torch.is_grad_enabled() and images.requires_grad
        if len(images) != self._size or not replayed or self.training:
            plain: Tensor = self._model(images)
            return plain
        logits: Tensor = _Replayed.apply(images, self)  # type: ignore[no-untyped-call]
        return logits

    @torch.no_grad()
    def there(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Replay the way to the logits; the next call overwrites them."""
        self._images.copy_(images)
        self._there.replay()
        return self._logits.detach()

    @torch.no_grad()
    def back(self, upstream: Float[Tensor, "n k"]) -> Float[Tensor, "n c h w"]:
        """Replay the way back from the last logits; the next call overwrites the gradient."""
        self._upstream.copy_(upstream)
        self._back.replay()
        return self._gradient


class _Replayed(torch.autograd.Function):
    """A pass of a `GraphedModel` as torch's gradients know it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, model: GraphedModel) -> Tensor:
        ctx.model = model
        return model.there(images)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        model: GraphedModel = ctx.model
        return model.back(upstream), None


@contextmanager
def _recording(what: str, device: torch.device) -> Iterator[None]:
    """Raise what goes wrong in the block, where work is recorded, as one line.

    A capture that fails leaves torch on its stream, and the GPU usable as a rule.
    """
    stream = torch.cuda.current_stream(device)
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        torch.cuda.set_stream(stream)
        if isinstance(error, torch.AcceleratorError) and not _usable(device):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompilationError(
            f"{what} cannot be recorded as a CUDA graph here: {lines[0]}; begin with "
            "engine.compile=false"
        ) from error


def _usable(device: torch.device) -> bool:
    try:
        return torch.ones(1, device=device).add_(1.0).item() == 2.0
    except torch.AcceleratorError:
        return False


def _warm_up(function: Callable[[], object], device: torch.device) -> None:
    """Call a function some times on a stream of its own."""
    stream = torch.cuda.current_stream(device)
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(stream)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function()
    stream.wait_stream(aside)


def _recorded(
    function: Callable[[], Result], pool: Any = None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Return the graph of a function's work, and what the function returned as it was recorded."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as NCCL's watchdog, go on with what must not be recorded.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = function()
    return graph, result
