"""Which unit goes to whom."""

from collections import Counter

import pytest

from dfshield.distributed.workers.work_queue import WorkQueue


def shards(*sizes):
    return [[(shard, part) for part in range(size)] for shard, size in enumerate(sizes)]


def test_each_worker_makes_whole_shards_part_by_part():
    queue = WorkQueue(shards(3, 3, 3, 3), max_retries=0)
    taken = {"a": [], "b": []}
    for _ in range(6):
        for worker, units in taken.items():
            units.append(queue.take(worker))
    assert taken["a"] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert taken["b"] == [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1), (3, 2)]


def test_nobody_is_idle_while_a_unit_waits():
    queue = WorkQueue(shards(4, 1), max_retries=0)
    assert queue.take("a") == (0, 0)
    assert queue.take("b") == (1, 0)
    queue.done((1, 0))
    assert queue.take("b") == (0, 1)  # helps with the longest group
    assert queue.take("c") == (0, 2)
    assert queue.take("a") == (0, 3)
    assert [queue.take(worker) for worker in "abc"] == [None] * 3


@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_unit_is_tried_finitely_often_and_first(max_retries):
    queue = WorkQueue(shards(2), max_retries=max_retries)
    for _ in range(max_retries):
        assert queue.take("a") == (0, 0)
        assert queue.put_back((0, 0))
    assert queue.take("a") == (0, 0)
    assert not queue.put_back((0, 0))
    assert queue.take("a") == (0, 1)
    assert queue.unfinished
    queue.done((0, 1))
    assert not queue.unfinished


def test_the_shard_of_a_lost_worker_is_taken_up_by_the_next():
    queue = WorkQueue(shards(3, 3), max_retries=1)
    assert (queue.take("a"), queue.take("b")) == ((0, 0), (1, 0))
    queue.forget("a")
    assert queue.put_back((0, 0))
    assert [queue.take("c") for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]


def test_every_unit_is_handed_out_exactly_once_whoever_asks():
    sizes = (5, 1, 0, 7, 2)
    queue = WorkQueue(shards(*sizes), max_retries=0)
    taken = Counter()
    workers = "abc"
    turn = 0
    while queue.unfinished:
        unit = queue.take(workers[turn * turn % len(workers)])
        turn += 1
        if unit is None:
            break
        taken[unit] += 1
        queue.done(unit)
    assert set(taken.values()) == {1}
    assert len(taken) == sum(sizes)
    assert not queue.unfinished


def test_a_try_that_does_not_count_costs_none():
    queue = WorkQueue(shards(1), max_retries=1)
    for _ in range(5):
        assert queue.take("a") == (0, 0)
        assert queue.put_back((0, 0), counted=False)
    assert queue.take("a") == (0, 0)
    assert queue.put_back((0, 0))
    assert queue.take("a") == (0, 0)
    assert not queue.put_back((0, 0))
    assert queue.unfinished == 0
