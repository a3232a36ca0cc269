"""The fast path of the student's passes in training."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.engine.accelerated_model import AcceleratedModel, accelerable
from dfshield.engine.acceleration import Acceleration, in_one_layout, require_compiled
from dfshield.seeds import torch_generators_kept
from dfshield.training.batchnorm import BatchNormRecords


def accelerated(
    student: nn.Module,
    *,
    image_shape: tuple[int, ...],
    full_size: int,
    together: int,
    acceleration: Acceleration,
) -> "AcceleratedStudent | None":
    """Return the student with faster passes, or None; see `accelerable`."""
    if not accelerable(
        student, acceleration, otherwise="the student is trained without acceleration"
    ):
        return None
    return AcceleratedStudent(
        student,
        image_shape=image_shape,
        full_size=full_size,
        together=together,
        acceleration=acceleration,
    )


class AcceleratedStudent(AcceleratedModel):
    """A student whose passes are computed faster; its weights and buffers are the student's own.

    In eval mode it is an `AcceleratedModel`, whose arguments it takes. `train_pass` is a train-mode
    pass that leaves the BatchNorm buffers alone and returns the batch's statistics, as
    `DeferredBatchNorm` records them.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        image_shape: tuple[int, ...],
        full_size: int,
        acceleration: Acceleration,
        together: int = 1,
    ) -> None:
        super().__init__(
            student,
            image_shape=image_shape,
            full_size=full_size,
            together=together,
            acceleration=acceleration,
        )
        self._recorded: list[tuple[int, Tensor, Tensor]] = []
        for index, layer in enumerate(self._layers):
            layer.record = self._record(index)
        self._train_pass = acceleration.compile(self._logits_and_statistics)
        images = torch.zeros(full_size, *image_shape, device=self._device)
        self._order = self._order_of(images[:2])
        if acceleration.compiled:
            require_compiled(lambda: self._try_training(images), "this student", self._device)

    def train_pass(
        self, images: Float[Tensor, "n c h w"]
    ) -> tuple[Float[Tensor, "n k"], BatchNormRecords]:
        """Return the logits of images in [0, 1] in train mode, and the batch's statistics."""
        whole = len(images) == self._full_size
        self.train()
        train_pass = self._train_pass if whole else self._logits_and_statistics
        logits, statistics = train_pass(in_one_layout(images))
        return logits, BatchNormRecords(self._order, statistics)

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
        self.train()
        with torch.no_grad(), torch_generators_kept(self._device):
            self._logits(images)
        order = tuple(index for index, *_ in self._recorded)
        self._recorded.clear()
        return order

    def _try_training(self, images: Tensor) -> None:
        weights = [p for p in self._twin.parameters() if p.requires_grad]
        with torch_generators_kept(self._device):
            logits, _ = self.train_pass(images)
            torch.autograd.grad(logits.sum(), weights, allow_unused=True)
