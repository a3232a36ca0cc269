"""Mini-batches of workers: the rows of a plain loop, in any order of updates, gathered ahead."""

import threading
import time

import numpy as np
import pytest
import torch

from dfshield.seeds import RngStream, generator
from dfshield.training import InnerMaximization, SingleWorker
from dfshield.training.image_batches import ImageBatches


class Worker(SingleWorker):
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def drawn(rng, shape):
    """What a mini-batch's attack starts with; in these tests it tells who drew it."""
    DRAWN_BY.append(threading.current_thread())
    return torch.from_numpy(rng.standard_normal(tuple(shape)))


DRAWN_BY = []


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
        draw=drawn,
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
                    rng = generator(5, RngStream.TRAINING, epoch, batch.number)
                    noise = torch.from_numpy(rng.standard_normal(tuple(batch.images.shape)))
                    assert torch.equal(batch.noise, noise)
                    # What it still draws is what would have come next.
                    assert batch.generator.standard_normal() == rng.standard_normal()
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


def test_what_attacks_start_with_is_drawn_meanwhile(images):
    DRAWN_BY.clear()
    batches = batches_of(images, epochs=1)
    passes = batches.passes(0, 0)
    next(passes)
    deadline = time.monotonic() + 10
    while len(DRAWN_BY) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(DRAWN_BY) == 2  # one ahead
    list(passes)
    assert threading.current_thread() not in DRAWN_BY


@pytest.mark.parametrize("start", ["gaussian", "uniform"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_that_was_drawn_before_gives_the_same_bytes(make_student, images, start, norm):
    inner = InnerMaximization(eps=0.5, norm=norm, num_steps=3, start=start)
    parts, student = list(images.split(20)), make_student()
    generators = [[np.random.default_rng(n) for n in range(3)] for _ in range(2)]
    noise = [inner.start_noise(g, x.shape) for g, x in zip(generators[1], parts, strict=True)]
    assert [len(of_part) for of_part in noise] == [len(part) for part in parts]
    plain = inner.perturb_batches(student, parts, generators=generators[0])
    ahead = inner.perturb_batches(student, parts, generators=generators[1], noise=noise)
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(*generators, strict=True):
        assert one.standard_normal() == other.standard_normal()


def test_an_error_of_the_thread_is_raised_where_the_images_are_wanted(watched):
    batches = batches_of(watched)
    passes = batches.passes(0, 0)
    next(passes)
    watched.fails = True
    with pytest.raises(OSError, match="the disk is gone"):
        list(passes)
    watched.fails = False
    assert len(list(batches.passes(0, 0))) == 3
