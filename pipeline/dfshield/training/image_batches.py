"""The mini-batches of an adversarial training: their order, and their images one pass ahead."""

from collections.abc import Iterator
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
        images: float32 or float16 in [0, 1], or uint8 in [0, 255].
        labels: their artificial labels.
        teacher_logits: the teacher's logits of them.
    """

    number: int
    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    teacher_logits: Float[Tensor, "n k"]

    def to(self, device: torch.device) -> "ImageBatch":
        """Return it on a device; a copy from pinned memory is not waited for."""
        moved = (tensor.to(device, non_blocking=True) for tensor in self[1:])
        return ImageBatch(self.number, *moved)

    def pinned(self) -> "ImageBatch":
        """Return it in pinned memory, which a GPU copies from by itself."""
        return ImageBatch(self.number, *(tensor.pin_memory() for tensor in self[1:]))


class _Pass(NamedTuple):
    """Mini-batches of an update that are attacked together."""

    epoch: int
    batches: range


class ImageBatches:
    """Gives a worker its mini-batches of every update.

    Epoch e goes through the images in a permutation drawn from ``(seed, e)``, cut into mini-batches
    of ``batch_size``; ``num_batches`` of them make an update, of which worker r of W has every W-th
    from the r-th on. A last mini-batch or update may be short.

    Images in main memory are gathered in a thread while the mini-batches before them are computed,
    and for a GPU into pinned memory: so they may as well lie in a mapped file larger than memory.
    The order, and so the result, is the same.

    Args:
        images: on the device that is computed on, or the CPU.
        labels: their labels, where the images are.
        teacher_logits: the teacher's logits of them, where the images are.
        epochs: after which nothing is gathered ahead.
        batch_size: images per mini-batch.
        num_batches: mini-batches per update.
        batches_per_pass: how many of them are given together.
        seed: of the permutations.
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
        group: WorkerGroup,
        device: torch.device,
    ) -> None:
        self._columns = (images, labels, teacher_logits)
        self._epochs = epochs
        self._batch_size = batch_size
        self._num_batches = num_batches
        self._batches_per_pass = batches_per_pass
        self._seed = seed
        self._group = group
        self._device = device
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))  # of which epoch
        self._ahead: tuple[_Pass, Future[list[ImageBatch]]] | None = None
        self._thread = ThreadPoolExecutor(1, "dfshield-images") if images.is_cpu else None

    @property
    def per_epoch(self) -> int:
        """Mini-batches in an epoch, a short last one included."""
        return -(-len(self._columns[0]) // self._batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch, that of a short last group included."""
        return -(-self.per_epoch // self._num_batches)

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
            yield [batch.to(self._device) for batch in self._taken(wanted, after)]

    def _own(self, epoch: int, update: int) -> list[_Pass]:
        if epoch >= self._epochs:
            return []
        first = update * self._num_batches
        batches = range(first, min(first + self._num_batches, self.per_epoch))
        own, together = batches[self._group.rank :: self._group.size], self._batches_per_pass
        return [_Pass(epoch, own[i : i + together]) for i in range(0, len(own), together)]

    def _taken(self, wanted: _Pass, after: _Pass | None) -> list[ImageBatch]:
        """Return what is wanted now, and have what comes after it gathered meanwhile."""
        if self._thread is None:
            return self._gathered(wanted)
        if self._ahead is None or self._ahead[0] != wanted:
            self._ahead = wanted, self._thread.submit(self._gathered, wanted)
        batches = self._ahead[1].result()
        self._ahead = after and (after, self._thread.submit(self._gathered, after))
        return batches

    def _gathered(self, wanted: _Pass) -> list[ImageBatch]:
        order = self._order_of(wanted.epoch)
        gathered = []
        for number in wanted.batches:
            rows = order[number * self._batch_size : (number + 1) * self._batch_size]
            index = torch.from_numpy(rows).to(self._columns[0].device)
            batch = ImageBatch(number, *(column[index] for column in self._columns))
            pin = self._thread is not None and self._device.type == "cuda"
            gathered.append(batch.pinned() if pin else batch)
        return gathered

    def _order_of(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rng = generator(self._seed, RngStream.TRAINING, epoch)
            self._order = epoch, rng.permutation(len(self._columns[0]))
        return self._order[1]
