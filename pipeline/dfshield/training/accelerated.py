"""The fast path of the student's passes: compiled, in lower precision, channels last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.acceleration import Acceleration, works
from dfshield.attacks import frozen
from dfshield.classifiers import batchnorm_layers
from dfshield.training.batchnorm import BatchNormRecords


class AcceleratedStudent(nn.Module):
    """A student whose passes are computed faster; its weights and buffers are the student's own.

    In eval mode it is called as the student is. `train_pass` is a train-mode pass that leaves the
    BatchNorm buffers alone and returns the batch's statistics, as `DeferredBatchNorm` records them.

    Batches of ``full_size`` images are compiled, for fixed shapes. Others, as a short last one, are
    computed by the same code without.

    Args:
        student: the model; hooks on its BatchNorm layers stay as long as it lives.
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
        self.student = student
        self._full_size = full_size
        self._acceleration = acceleration
        self._device = next(student.parameters()).device
        self._layers = [layer for _, layer in batchnorm_layers(student)]
        self._recorded: list[tuple[int, Tensor, Tensor]] = []
        for index, layer in enumerate(self._layers):
            layer.register_forward_pre_hook(self._record(index))
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
        with self._buffers_standing_still():
            run = self._train_pass if whole else self._logits_and_statistics
            logits, statistics = run(images)
        return logits, BatchNormRecords(self._order, statistics)

    def _logits(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with self._acceleration.autocast(self._device):
            logits: Tensor = self.student(images)
        return logits.float()

    def _logits_and_statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self._recorded.clear()
        logits = self._logits(images)
        statistics = [t.detach() for _, *pair in self._recorded for t in pair]
        self._recorded.clear()
        return logits, torch.cat(statistics) if statistics else logits.new_empty(0)

    def _record(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not layer.training:
                return
            features = inputs[0].float()
            axes = [axis for axis in range(features.ndim) if axis != 1]
            # As PyTorch's own decomposition has it, so that the compiler computes them once.
            variance, mean = torch.var_mean(features, dim=axes, correction=0, keepdim=True)
            count = features.numel() // features.shape[1]
            unbiased = variance * (count / max(1, count - 1))
            self._recorded.append((index, mean.flatten(), unbiased.flatten()))

        return hook

    @contextmanager
    def _buffers_standing_still(self) -> Iterator[None]:
        for layer in self._layers:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer in self._layers:
                layer.track_running_stats = True

    def _order_of(self, images: Tensor) -> tuple[int, ...]:
        """Return the layers in the order of their records."""
        training = self.student.training
        with self._buffers_standing_still(), torch.no_grad(), torch.random.fork_rng():
            self.student.train()
            self._logits(images)
            self.student.train(training)
        order = tuple(index for index, *_ in self._recorded)
        self._recorded.clear()
        return order

    def _try(self, images: Tensor) -> None:
        with frozen(self):
            attacked = images.clone().requires_grad_()
            torch.autograd.grad(self._eval_pass(attacked).sum(), [attacked])
        training = self.student.training
        self.student.train()
        weights = [p for p in self.student.parameters() if p.requires_grad]
        with self._buffers_standing_still(), torch.random.fork_rng():
            logits, _ = self._train_pass(images)
            torch.autograd.grad(logits.sum(), weights, allow_unused=True)
        self.student.train(training)
