"""The student's passes in training, plain or on the fast path."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dfshield.classifiers import float32_logits
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.cuda_graph import GraphedModel
from dfshield.pixels import as_floats
from dfshield.training.accelerated import accelerated
from dfshield.training.batchnorm import BatchNormRecords, DeferredBatchNorm


class StudentPasses:
    """Train-mode passes of a student, which leave its BatchNorm buffers alone, and their records.

    Args:
        student: the model; its weights are used as they are when a pass begins.
        image_shape: (c, h, w).
        full_size: images in a whole mini-batch.
        together: whole mini-batches that are attacked in one pass.
        acceleration: how passes may be computed faster; see `AcceleratedStudent`.

    Attributes:
        attacked: the student as attacks see it, in eval mode.
        device: that of its weights.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        image_shape: tuple[int, ...],
        full_size: int,
        together: int,
        acceleration: Acceleration,
    ) -> None:
        self._student = student
        self._batchnorm = DeferredBatchNorm(student)
        self._fast = accelerated(
            student,
            image_shape=image_shape,
            full_size=full_size,
            together=together,
            acceleration=acceleration,
        )
        self.attacked: nn.Module = self._fast or student
        if acceleration.graphed:
            size = full_size * together
            self.attacked = GraphedModel(student, image_shape=image_shape, size=size)
        self.device = next(student.parameters()).device

    def pixels(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return stored images as the passes take them: floats in [0, 1], on the device."""
        floats = as_floats(images.to(self.device))
        if self._fast is None:
            return floats
        # As its gradients are: arithmetic on two layouts at once is slow.
        return floats.contiguous(memory_format=torch.channels_last)

    def train_pass(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits in train mode, and record the statistics of the batch."""
        if self._fast is None:
            with self._batchnorm.recording():
                return float32_logits(self._student, images)
        logits, records = self._fast.train_pass(images)
        self._batchnorm.add(records)
        return logits

    def take(self) -> BatchNormRecords:
        """Return what was recorded since the last call, and forget it."""
        return self._batchnorm.take()

    def apply(self, records: BatchNormRecords) -> None:
        """Move the running buffers by recorded passes; see `DeferredBatchNorm`."""
        self._batchnorm.apply(records.to(self.device))

    def settle(self, records: Sequence[BatchNormRecords], sizes: Sequence[int]) -> None:
        """Set the running buffers to the mean of recorded passes; see `DeferredBatchNorm`."""
        self._batchnorm.settle([record.to(self.device) for record in records], sizes)
