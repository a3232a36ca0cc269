"""The loop over the workers, with a simulated Ray whose calls end in an order drawn at random."""

import random
from collections import Counter

import pytest
import ray
from simulated_ray import SimulatedRay, looped

from dfshield.errors import DfshieldError


@pytest.mark.parametrize("seed", range(20))
def test_every_unit_is_done_once_whatever_ends_together(monkeypatch, seed):
    draw = random.Random(seed)
    sizes = [draw.randint(1, 5) for _ in range(draw.randint(1, 8))]
    groups = [[(i, n) for n in range(size)] for i, size in enumerate(sizes)]
    simulated = SimulatedRay(draw, draw.randint(1, 6), losses=0.2)
    loop, log = looped(monkeypatch, simulated, groups, max_retries=50)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    told = Counter(event for event, _ in log.events)
    assert told["unit_done"] == sum(sizes)
    assert told["unit_retried"] == told["worker_lost"]
    assert told["unit_started"] == told["unit_done"] + told["unit_retried"]
    at_work = {}
    for event, fields in log.events:
        if event == "unit_started":
            assert fields["worker"] not in at_work
            at_work[fields["worker"]] = fields["unit"]
        elif event in ("unit_done", "worker_lost"):
            assert at_work.pop(fields["worker"]) == fields["unit"]
    assert not at_work


def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_are_done(monkeypatch):
    simulated = SimulatedRay(random.Random(0), 3)
    usual = simulated.ending
    lost = ray.exceptions.WorkerCrashedError()
    simulated.ending = lambda unit: lost if unit == "bad" else usual(unit)
    loop, log = looped(monkeypatch, simulated, [["a", "bad", "b"], ["c", "d"]], max_retries=2)
    done = []
    with pytest.raises(DfshieldError, match="bad: given up after 2 retries"):
        done.extend(made.unit for made in loop.run())
    assert sum(event == "worker_lost" for event, _ in log.events) == 3
    told = sorted(fields["unit"] for event, fields in log.events if event == "unit_done")
    assert told == ["a", "b", "c", "d"]


def test_calls_that_have_ended_are_asked_for_together(monkeypatch):
    simulated = SimulatedRay(random.Random(0), 100)
    loop, _ = looped(monkeypatch, simulated, [range(n, n + 10) for n in range(0, 2000, 10)], 0)
    assert len(list(loop.run())) == 2000
    assert simulated.waits < 200
