"""The loop over workers whose GPUs fail, are busy, or compute other numbers, on a simulated Ray."""

from collections import Counter
from itertools import count

import pytest
import torch
from simulated_ray import POISON, SimulatedGpus, looped, raised

from dfshield.distributed.workers import task_loop
from dfshield.distributed.workers.code_errors import CodeError
from dfshield.engine.acceleration import CompilationError
from dfshield.errors import DfshieldError, OtherDeviceError


@pytest.fixture
def no_waiting(monkeypatch):
    """The cluster is looked at whenever it may be."""
    monkeypatch.setattr(task_loop, "CLUSTER_CHECK_S", 0.0)
    monkeypatch.setattr(task_loop.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("kind", ["crashes", "fails", "unfit"])
@pytest.mark.parametrize("max_retries", [1, 3])
def test_a_gpu_that_fails_twice_gets_no_more_work_and_no_try_counts(
    monkeypatch, no_waiting, kind, max_retries
):
    simulated = SimulatedGpus(bad=kind, good="good", other="good")
    groups = [[(i, n) for n in range(8)] for i in range(4)]
    loop, log = looped(monkeypatch, simulated, groups, max_retries=max_retries)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    assert sum(gpu == "bad" for _, gpu in simulated.tried) == (0 if kind == "unfit" else 2)
    (told,) = [fields for event, fields in log.events if event == "gpu_kept_out"]
    assert told["gpu"] == "bad"
    assert not loop.queue._tries or max(loop.queue._tries.values()) <= 1
    # Its worker holds it, so that Ray gives it to no other; and the next task knows.
    assert [worker.on for worker in simulated.benched] == ["bad"]
    assert simulated.num_wanted() == 2


def test_a_unit_that_kills_its_workers_everywhere_does_not_cost_the_gpus(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="good", b="good", c="good")
    groups = [[POISON, *range(4)], range(10, 20), range(20, 30)]
    loop, _ = looped(monkeypatch, simulated, groups, max_retries=2)
    done = []
    with pytest.raises(DfshieldError, match="poison: given up after 2 retries"):
        done.extend(made.unit for made in loop.run())
    assert sorted(done) == [*range(4), *range(10, 20), *range(20, 30)]
    assert simulated.benched == []
    assert 3 <= sum(unit == POISON for unit, _ in simulated.tried) <= 5


def test_where_every_gpu_fails_the_work_ends_in_one_line(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="unfit", b="unfit")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(DfshieldError, match="workers die as they start: busy") as raised:
        list(loop.run())
    assert "\n" not in str(raised.value)


def done_by_the_good_one(monkeypatch, order, kind):
    """Have all units done where every GPU but the good one is of a kind."""
    simulated = SimulatedGpus(**{gpu: "good" if gpu == "good" else kind for gpu in order})
    groups = [[(i, n) for n in range(8)] for i in range(4)]
    loop, log = looped(monkeypatch, simulated, groups, max_retries=1)
    done = Counter(made.unit for made in loop.run())
    assert done == Counter(unit for group in groups for unit in group)
    assert {gpu for _, gpu in simulated.tried} == {"good"}
    return simulated, log


@pytest.mark.parametrize("order", [["a", "b", "good"], ["good", "a", "b"]])
def test_gpus_of_other_numbers_are_kept_out_at_once_and_the_others_go_on(
    monkeypatch, no_waiting, order
):
    simulated, log = done_by_the_good_one(monkeypatch, order, "other")
    kept_out = [fields for event, fields in log.events if event == "gpu_kept_out"]
    assert sorted(fields["gpu"] for fields in kept_out) == ["a", "b"]
    assert all(fields["reason"] == "an A100, but an H100 began" for fields in kept_out)
    assert simulated.num_wanted() == 1


def test_where_all_gpus_are_others_the_work_ends_with_the_reason(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="other", b="other")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(OtherDeviceError, match=r"^an A100, but an H100 began$"):
        list(loop.run())
    assert simulated.benched == []  # other work may have begun on them


@pytest.mark.parametrize("order", [["a", "b", "good"], ["good", "a", "b"]])
def test_nodes_that_cannot_compile_are_refused_in_one_line_and_the_others_go_on(
    monkeypatch, no_waiting, order
):
    simulated, log = done_by_the_good_one(monkeypatch, order, "uncompiled")
    refused = [line for line in log.said if "cannot take part" in line]
    assert len(refused) == 2
    assert all("cannot be compiled here (on node-3); others go on" in line for line in refused)
    assert simulated.num_wanted() == 1


def test_where_no_node_can_compile_the_work_ends_with_the_reason(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="uncompiled", b="uncompiled")
    loop, _ = looped(monkeypatch, simulated, [[1, 2], [3]], max_retries=2)
    with pytest.raises(
        CompilationError, match=r"^this student cannot be compiled here \(on node-3"
    ):
        list(loop.run())
    assert simulated.benched == []  # other work need not be compiled


def test_a_busy_gpu_is_taken_when_it_is_free_again(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="unfit")
    starts = count()
    usual = simulated.start

    def start(worker):
        if next(starts) == 2:
            simulated.kinds["a"] = "good"
        return usual(worker)

    simulated.start = start
    loop, log = looped(monkeypatch, simulated, [[1, 2]], max_retries=3)
    assert [made.unit for made in loop.run()] == [1, 2]
    assert sum(event == "worker_lost" for event, _ in log.events) == 2


def test_a_unit_that_twice_needs_more_memory_is_given_up_with_the_remedy(monkeypatch, no_waiting):
    simulated = SimulatedGpus(a="good", b="good")
    full = CodeError.of(caught(torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB. GPU 0")))
    usual = simulated.ended

    def ended(worker, unit):
        result = usual(worker, unit)
        return raised(full) if unit == 1 else result

    simulated.ended = ended
    loop, _ = looped(monkeypatch, simulated, [[0, 1, 2], [3, 4]], max_retries=5)
    done = []
    with pytest.raises(DfshieldError, match=r"^1: twice out of GPU memory .*Tried 9 GiB") as told:
        done.extend(made.unit for made in loop.run())
    assert "cluster.gpus_per_worker=1" in str(told.value)
    assert "two workers" not in str(told.value)
    assert sorted(done) == [0, 2, 3, 4]
    assert sum(unit == 1 for unit, _ in simulated.tried) == 2
    assert simulated.benched == []


def caught(error):
    """The error with a traceback."""
    try:
        raise error
    except type(error) as raised:
        return raised
