"""The fast path of the student's passes: compiled, in lower precision, channels last."""

import copy
import warnings
from collections.abc import Callable
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.acceleration import Acceleration, works
from dfshield.attacks import frozen
from dfshield.classifiers import batchnorm_layers
from dfshield.fused_batchnorm import fuse, fusible
from dfshield.training.batchnorm import BatchNormRecords


def accelerated(
    student: nn.Module,
    *,
    image_shape: tuple[int, ...],
    full_size: int,
    acceleration: Acceleration,
) -> "AcceleratedStudent | None":
    """Return the student with faster passes; see `AcceleratedStudent`.

    Where nothing is allowed there is none, nor for BatchNorm layers of a class with a forward pass
    of its own, of which a warning tells.
    """
    if acceleration.plain:
        return None
    for name, layer in batchnorm_layers(student):
        if not fusible(layer):
            warnings.warn(
                f"{name} is a {type(layer).__name__}, which normalises in a way of its own: the "
                "student is trained without acceleration",
                stacklevel=2,
            )
            return None
    return AcceleratedStudent(
        student, image_shape=image_shape, full_size=full_size, acceleration=acceleration
    )


class AcceleratedStudent(nn.Module):
    """A student whose passes are computed faster; its weights and buffers are the student's own.

    In eval mode it is called as the student is, and computes by the weights that it had when it was
    put into it. `train_pass` is a train-mode pass that leaves the BatchNorm buffers alone and
    returns the batch's statistics, as `DeferredBatchNorm` records them.

    Batches of ``full_size`` images are compiled, for fixed shapes. Others, as a short last one, are
    computed by the same code without.

    Args:
        student: the model; it is not touched.
        image_shape: (c, h, w).
        full_size: images in a batch that is worth compiling for.
        acceleration: what is allowed.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        image_shape: tuple[int, ...],
        full_size: int,
        acceleration: Acceleration,
    ) -> None:
        super().__init__()
        self._twin = _twin_of(student)
        self._full_size = full_size
        self._acceleration = acceleration
        self._device = next(student.parameters()).device
        self._recorded: list[tuple[int, Tensor, Tensor]] = []
        for index, (_, layer) in enumerate(batchnorm_layers(self._twin)):
            fuse(layer).record = self._record(index)
        self._eval_pass = acceleration.compile(self._logits)
        self._train_pass = acceleration.compile(self._logits_and_statistics)
        images = torch.zeros(full_size, *image_shape, device=self._device)
        self._order = self._order_of(images[:2])
        if acceleration.compiled and not works(lambda: self._try(images), "this student"):
            self._eval_pass, self._train_pass = self._logits, self._logits_and_statistics

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1], in eval mode."""
        whole = len(images) == self._full_size
        logits: Tensor = (self._eval_pass if whole else self._logits)(images)
        return logits

    def train_pass(
        self, images: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n k"], BatchNormRecords]:
        """Return the logits of images in [0, 1] in train mode, and the batch's statistics."""
        whole = len(images) == self._full_size
        self._twin.train()
        logits, statistics = (self._train_pass if whole else self._logits_and_statistics)(images)
        return logits, BatchNormRecords(self._order, statistics)

    def _logits(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with self._acceleration.autocast(self._device):
            logits: Tensor = self._twin(images)
        return logits.float()

    def _logits_and_statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self._recorded.clear()
        logits = self._logits(images)
        statistics = [t.detach() for _, *pair in self._recorded for t in pair]
        self._recorded.clear()
        return logits, torch.cat(statistics) if statistics else logits.new_empty(0)

    def _record(self, index: int) -> Callable[[Tensor, Tensor], None]:
        def record(mean: Tensor, variance: Tensor) -> None:
            self._recorded.append((index, mean, variance))

        return record

    def _order_of(self, images: Tensor) -> tuple[int, ...]:
        """Return the layers in the order of their records."""
        self._twin.train()
        with torch.no_grad(), torch.random.fork_rng():
            self._logits(images)
        order = tuple(index for index, *_ in self._recorded)
        self._recorded.clear()
        return order

    def _try(self, images: Tensor) -> None:
        with frozen(self):
            attacked = images.clone().requires_grad_()
            torch.autograd.grad(self._eval_pass(attacked).sum(), [attacked])
        weights = [p for p in self._twin.parameters() if p.requires_grad]
        self._twin.train()
        with torch.random.fork_rng():
            logits, _ = self._train_pass(images)
            torch.autograd.grad(logits.sum(), weights, allow_unused=True)


def _twin_of(student: nn.Module) -> nn.Module:
    """Return a copy of the modules that has the same weights and buffers, not copies of them."""
    shared = {id(tensor): tensor for tensor in chain(student.parameters(), student.buffers())}
    return copy.deepcopy(student, shared)
