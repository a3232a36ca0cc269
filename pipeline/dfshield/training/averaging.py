"""The average of a student's weights while it is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter

import torch
from torch import Tensor, nn

from dfshield.classifiers import gradients, load_state, modes_kept
from dfshield.seeds import RngStream, derived_seed, torch_generators
from dfshield.training.averages import Average
from dfshield.training.batchnorm import BatchNormRecords
from dfshield.training.group import WorkerGroup
from dfshield.training.image_batches import ImageBatches
from dfshield.training.passes import StudentPasses
from dfshield.training.requirements import require_kind

STATISTICS_DRAWS = 1 << 29
"""Mini-batch index from which BatchNorm's statistics are estimated: beyond any real one."""


class StudentAverage:
    """The mean of a student's weights over its updates, as an `Average` weighs them.

    Args:
        average: which updates count, and how much.
        student: the model; it is not touched outside :meth:`in_student`.
        passes: its train-mode passes.
        batches: of its training, by whose images BatchNorm's statistics are estimated.
        epochs: of its training.
        seed: of what layers draw in train mode.
        group: the workers that train it.

    Attributes:
        weights: the mean of every parameter, in the student's order; none before it has begun.

    Raises:
        InputError: for an average that would begin after the last epoch.
    """

    def __init__(
        self,
        average: Average,
        student: nn.Module,
        *,
        passes: StudentPasses,
        batches: ImageBatches,
        epochs: int,
        seed: int,
        group: WorkerGroup,
    ) -> None:
        require_kind(average, Average, "average")
        average.require_begun(epochs)
        self.weights: list[Tensor] = []
        self._average = average
        self._student = student
        self._passes = passes
        self._batches = batches
        self._epochs = epochs
        self._seed = seed
        self._group = group

    @property
    def begun(self) -> bool:
        """Whether a student has counted yet."""
        return bool(self.weights)

    @torch.no_grad()
    def update(self, update: int) -> None:
        """Let the student count that an update, numbered from 0 since the beginning, has left."""
        weight = self._average.weight(
            update, updates_per_epoch=self._batches.updates_per_epoch, epochs=self._epochs
        )
        if weight == 0:
            return
        if weight == 1:
            self.weights = [parameter.detach().clone() for parameter in self._student.parameters()]
        for mean, parameter in zip(self.weights, self._student.parameters(), strict=True):
            mean.lerp_(parameter, weight)

    @contextmanager
    def in_student(self, epoch: int) -> Iterator[None]:
        """Let the student be the average inside the block; afterwards it is as it was.

        Its BatchNorm statistics are those of all clean images, each pass of which one worker of the
        group computes: all enter the block together. Before it has begun, nothing changes.

        Args:
            epoch: how many are over, which decides what layers draw in train mode.
        """
        if not self.begun:
            yield
            return
        kept = {name: value.clone() for name, value in self._student.state_dict().items()}
        try:
            _copy(self.weights, self._student)
            self._estimate_statistics(epoch)
            yield
        finally:
            self._passes.take()  # of a pass that failed
            load_state(self._student, kept)

    def _estimate_statistics(self, epoch: int) -> None:
        own: list[tuple[int, BatchNormRecords]] = []
        with modes_kept(self._student), gradients():  # as in training: compiled once for both
            self._student.train()
            for k in range(self._group.rank, self._batches.per_epoch, self._group.size):
                seed = derived_seed(self._seed, RngStream.TRAINING, epoch, STATISTICS_DRAWS + k)
                with torch_generators(seed, self._passes.device):
                    self._passes.train_pass(self._passes.pixels(self._batches.stored(k)))
                own.append((k, self._passes.take().to("cpu")))
        gathered = sorted(chain.from_iterable(self._group.all_gather(own)), key=itemgetter(0))
        sizes = [len(self._batches.stored(k)) for k in range(self._batches.per_epoch)]
        self._passes.settle([records for _, records in gathered], sizes)

    @torch.no_grad()
    def load(self, weights: Sequence[Tensor]) -> None:
        """Take over the mean of another training, a copy of it; none if it has not begun."""
        parameters = list(self._student.parameters()) if weights else []
        self.weights = [
            torch.empty_like(parameter).copy_(mean)
            for parameter, mean in zip(parameters, weights, strict=True)
        ]


@torch.no_grad()
def _copy(weights: Sequence[Tensor], student: nn.Module) -> None:
    for parameter, mean in zip(student.parameters(), weights, strict=True):
        parameter.copy_(mean)
