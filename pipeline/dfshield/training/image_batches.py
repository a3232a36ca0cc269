"""The mini-batches of an adversarial training: their order, and what they need one pass ahead."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dfshield.seeds import RngStream, generator
from dfshield.training.group import WorkerGroup


class ImageBatch(NamedTuple):
    """The images of one mini-batch, as they are stored.

    Attributes:
        number: of the mini-batch within its epoch.
        generator: of what its attack still has to draw.
        images: float32 or float16 in [0, 1], or uint8 in [0, 255].
        labels: their artificial labels.
        teacher_logits: the teacher's logits of them.
        noise: what its attack starts with, drawn from the generator; see `ImageBatches`.
        rows: where its images lie among all.
    """

    number: int
    generator: np.random.Generator
    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    teacher_logits: Float[Tensor, "n k"]
    noise: Float[Tensor, "..."]
    rows: Int[Tensor, " n"]

    def to(self, device: torch.device) -> "ImageBatch":
        """Return it on a device; a copy from pinned memory is not waited for."""
        moved = (tensor.to(device, non_blocking=True) for tensor in self[2:])
        return ImageBatch(self.number, self.generator, *moved)


class _Ahead(NamedTuple):
    """What a thread has made of a mini-batch.

    Attributes:
        number: of the mini-batch within its epoch.
        generator: as in `ImageBatch`.
        rows: as in `ImageBatch`.
        columns: images, labels and logits; none where they lie on the device.
        noise: as in `ImageBatch`.
    """

    number: int
    generator: np.random.Generator
    rows: Int[Tensor, " n"]
    columns: tuple[Tensor, ...]
    noise: Tensor


class _Pass(NamedTuple):
    """Mini-batches of an update that are attacked together."""

    epoch: int
    batches: range


class ImageBatches:
    """Gives a worker its mini-batches of every update.

    Epoch e goes through the images in a permutation drawn from ``(seed, e)``, cut into mini-batches
    of ``batch_size``; ``num_batches`` of them make an update, and as many consecutive ones as are
    given together a pass. Worker r of W has every W-th pass of an update from the r-th on, so that
    no pass depends on W. A last mini-batch, pass or update may be short.

    While mini-batches are computed, a thread draws what the attacks of the next ones start with.
    Images in main memory are gathered there, too: so they may as well lie in a mapped file larger
    than memory. For a GPU both end in pinned memory. The order, and so the result, is the same.

    Args:
        images: on the device that is computed on, or the CPU.
        labels: their labels, where the images are.
        teacher_logits: the teacher's logits of them, where the images are.
        epochs: after which nothing is gathered ahead.
        batch_size: images per mini-batch.
        num_batches: mini-batches per update.
        batches_per_pass: how many of them are given together.
        seed: of the permutations, and of every mini-batch's generator.
        draw: returns what the attack of a mini-batch starts with, from its generator and the shape
            of its images.
        group: the workers that share the mini-batches.
        device: which they are computed on.
    """

    def __init__(
        self,
        images: Shaped[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        teacher_logits: Float[Tensor, "n k"],
        *,
        epochs: int,
        batch_size: int,
        num_batches: int,
        batches_per_pass: int,
        seed: int,
        draw: Callable[[np.random.Generator, torch.Size], Tensor],
        group: WorkerGroup,
        device: torch.device,
    ) -> None:
        self._columns = (images, labels, teacher_logits)
        self._epochs = epochs
        self._batch_size = batch_size
        self._num_batches = num_batches
        self._batches_per_pass = batches_per_pass
        self._seed = seed
        self._draw = draw
        self._group = group
        self._device = device
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))  # of which epoch
        self._ahead: tuple[_Pass, Future[list[_Ahead]]] | None = None
        self._thread = ThreadPoolExecutor(1, "dfshield-images")

    @property
    def shape(self) -> torch.Size:
        """(n, c, h, w) of all images."""
        return self._columns[0].shape

    @property
    def per_epoch(self) -> int:
        """Mini-batches in an epoch, a short last one included."""
        return -(-len(self._columns[0]) // self._batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch, that of a short last group included."""
        return -(-self.per_epoch // self._num_batches)

    def place(self, epoch: int, update: int) -> tuple[int, int]:
        """Return the number of an update since the training began, and how many there are."""
        return epoch * self.updates_per_epoch + update, self._epochs * self.updates_per_epoch

    def stored(self, number: int) -> Shaped[Tensor, "n c h w"]:
        """Return the images of a mini-batch in the order in which they lie, which is no epoch's."""
        first = number * self._batch_size
        return self._columns[0][first : first + self._batch_size]

    def passes(self, epoch: int, update: int) -> Iterator[list[ImageBatch]]:
        """Give this worker's mini-batches of an update on the device, those of a pass together."""
        following = (epoch, update + 1) if update + 1 < self.updates_per_epoch else (epoch + 1, 0)
        first_after = next(iter(self._own(*following)), None)
        for wanted, after in pairwise([*self._own(epoch, update), first_after]):
            assert wanted is not None
            yield [self._batch(ahead) for ahead in self._taken(wanted, after)]

    def _own(self, epoch: int, update: int) -> list[_Pass]:
        if epoch >= self._epochs:
            return []
        first = update * self._num_batches
        batches = range(first, min(first + self._num_batches, self.per_epoch))
        together = self._batches_per_pass
        passes = [_Pass(epoch, batches[i : i + together]) for i in range(0, len(batches), together)]
        return passes[self._group.rank :: self._group.size]

    def _taken(self, wanted: _Pass, after: _Pass | None) -> list[_Ahead]:
        """Return what is wanted now, and have what comes after it made meanwhile."""
        if self._ahead is None or self._ahead[0] != wanted:
            self._ahead = wanted, self._thread.submit(self._made, wanted)
        ready = self._ahead[1].result()
        self._ahead = after and (after, self._thread.submit(self._made, after))
        return ready

    def _made(self, wanted: _Pass) -> list[_Ahead]:
        order = self._order_of(wanted.epoch)
        here = self._columns if self._columns[0].is_cpu else ()
        made = []
        for number in wanted.batches:
            span = slice(number * self._batch_size, (number + 1) * self._batch_size)
            rows = torch.from_numpy(order[span])
            rng = generator(self._seed, RngStream.TRAINING, wanted.epoch, number)
            noise = self._draw(rng, torch.Size([len(rows), *self._columns[0].shape[1:]]))
            columns = tuple(self._pinned(column[rows]) for column in here)
            made.append(_Ahead(number, rng, self._pinned(rows), columns, self._pinned(noise)))
        return made

    def _pinned(self, tensor: Tensor) -> Tensor:
        """Return it in memory that a GPU copies from by itself, if that is what computes."""
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    def _batch(self, ahead: _Ahead) -> ImageBatch:
        columns, rows = ahead.columns, ahead.rows
        if not columns:  # gathered in the thread, and the stream, that computes
            rows = rows.to(self._device, non_blocking=True)
            columns = tuple(column[rows] for column in self._columns)
        images, labels, logits = columns
        made = (ahead.number, ahead.generator, images, labels, logits, ahead.noise, rows)
        return ImageBatch(*made).to(self._device)

    def _order_of(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rng = generator(self._seed, RngStream.TRAINING, epoch)
            self._order = epoch, rng.permutation(len(self._columns[0]))
        return self._order[1]
