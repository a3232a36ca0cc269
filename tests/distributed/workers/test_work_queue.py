"""Which unit goes to whom."""

import random
from collections import Counter, deque

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


class PlainQueue:
    """The rules written down plainly: every group and every owner is looked at for each unit."""

    def __init__(self, groups, *, max_retries):
        self.groups = [deque(group) for group in groups]
        self.group_of = {unit: i for i, group in enumerate(groups) for unit in group}
        self.owned, self.tries, self.in_flight = {}, Counter(), set()
        self.max_retries = max_retries

    def take(self, worker):
        group = self.owned.get(worker)
        if group is None or not self.groups[group]:
            waiting = [i for i, units in enumerate(self.groups) if units]
            if not waiting:
                return None
            untouched = [i for i in waiting if i not in self.owned.values()]
            if untouched:
                group = self.owned[worker] = untouched[0]
            else:
                group = max(waiting, key=lambda i: len(self.groups[i]))
        unit = self.groups[group].popleft()
        self.in_flight.add(unit)
        self.tries[unit] += 1
        return unit

    def put_back(self, unit, *, counted=True):
        self.in_flight.discard(unit)
        if not counted:
            self.tries[unit] -= 1
        elif self.tries[unit] > self.max_retries:
            return False
        self.groups[self.group_of[unit]].appendleft(unit)
        return True

    def done(self, unit):
        self.in_flight.discard(unit)

    def forget(self, worker):
        self.owned.pop(worker, None)

    @property
    def unfinished(self):
        return len(self.in_flight) + sum(map(len, self.groups))


@pytest.mark.parametrize("seed", range(60))
def test_units_go_to_whom_the_plain_rules_say(seed):
    draw = random.Random(seed)
    groups = shards(*(draw.randint(0, 6) for _ in range(draw.randint(1, 9))))
    workers = [f"worker-{n}" for n in range(draw.randint(1, 7))]
    queues = [kind(groups, max_retries=2) for kind in (WorkQueue, PlainQueue)]
    losses = draw.choice((0.0, 0.1, 0.5))
    for _ in range(200):
        at_work = sorted(queues[1].in_flight)
        if at_work and draw.random() < 0.5:
            unit, counted = draw.choice(at_work), draw.random() < 0.7
            if draw.random() < losses:
                back = [queue.put_back(unit, counted=counted) for queue in queues]
                assert back[0] == back[1]
            else:
                for queue in queues:
                    queue.done(unit)
        elif draw.random() < losses:
            worker = draw.choice(workers)
            for queue in queues:
                queue.forget(worker)
        else:
            worker = draw.choice(workers)
            taken = [queue.take(worker) for queue in queues]
            assert taken[0] == taken[1]
        assert queues[0].unfinished == queues[1].unfinished
        assert queues[0].in_flight == queues[1].in_flight
