"""Mini-batches of workers: the rows of a plain loop, in any order of updates, gathered ahead."""

import threading
import time

import pytest
import torch

from dfshield.seeds import RngStream, generator
from dfshield.training import SingleWorker
from dfshield.training.image_batches import ImageBatches


class Worker(SingleWorker):
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def batches_of(images, rank=0, size=1, together=1, epochs=3):
    """Mini-batches of 8 images, three to an update, whose labels are their rows."""
    return ImageBatches(
        images,
        torch.arange(len(images)),
        torch.arange(len(images)).float()[:, None] * torch.ones(4),
        epochs=epochs,
        batch_size=8,
        num_batches=3,
        batches_per_pass=together,
        seed=5,
        group=Worker(rank, size),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("together", [1, 2])
def test_workers_get_the_mini_batches_of_a_plain_loop(images, size, together):
    workers = [batches_of(images, rank, size, together) for rank in range(size)]
    places = [(epoch, update) for epoch in range(3) for update in range(3)]
    for epoch, update in [*places, (1, 1), (0, 0), (2, 2)]:  # the last ones: a state was loaded
        order = torch.from_numpy(generator(5, RngStream.TRAINING, epoch).permutation(50))
        wanted = dict(list(enumerate(order.split(8)))[3 * update : 3 * update + 3])
        for worker in workers:
            for in_pass in worker.passes(epoch, update):
                assert 0 < len(in_pass) <= together
                for batch in in_pass:
                    rows = wanted.pop(batch.number)
                    assert torch.equal(batch.labels, rows)
                    assert torch.equal(batch.images, images[rows])
                    assert torch.equal(batch.teacher_logits[:, 1], rows.float())
        assert wanted == {}


class Watched(torch.Tensor):
    """Notes how many rows were gathered in which thread."""

    def __getitem__(self, index):
        if self.fails:
            raise OSError("the disk is gone")
        self.gathered.append((len(index), threading.current_thread()))
        return super().__getitem__(index).as_subclass(torch.Tensor)


@pytest.fixture
def watched(images):
    watched = images.as_subclass(Watched)
    watched.gathered, watched.fails = [], False
    return watched


def test_what_comes_next_is_gathered_meanwhile(watched):
    batches = batches_of(watched, epochs=1)
    for update, last in ((0, 24 + 8), (1, 48 + 2), (2, 50)):  # one ahead, across updates
        for _ in batches.passes(0, update):
            pass
        deadline = time.monotonic() + 10
        while sum(rows for rows, _ in watched.gathered) < last and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sum(rows for rows, _ in watched.gathered) == last
    assert {thread for _, thread in watched.gathered}.isdisjoint({threading.current_thread()})


def test_an_error_of_the_thread_is_raised_where_the_images_are_wanted(watched):
    batches = batches_of(watched)
    passes = batches.passes(0, 0)
    next(passes)
    watched.fails = True
    with pytest.raises(OSError, match="the disk is gone"):
        list(passes)
    watched.fails = False
    assert len(list(batches.passes(0, 0))) == 3
