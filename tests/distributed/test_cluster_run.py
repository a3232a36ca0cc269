"""The pipeline on a cluster of two nodes: same bytes as in one process, and everybody at work."""

import json
from pathlib import Path

import pytest
from tiny_run import (
    call,
    contents,
    ended,
    events,
    parts,
    run_of,
    stamps,
    start,
    succeed,
    write_config,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHARDS = {
    "synthesis__num_images": 640,
    "synthesis__iterations": 60,  # the worker that made the canary does not do it all alone
    "storage__part_size": 40,
    "storage__shard_size": 80,
}
TRAINING = {
    "synthesis__num_images": 240,
    "training__inner": {"num_steps": 3},
    "training__epochs": 3,
}


@pytest.fixture
def joined(cluster):
    """The settings that let a command use the cluster."""
    return f"cluster.address={cluster.address}"


def test_every_gpu_makes_whole_shards_and_the_set_equals_that_of_one_process(tiny, joined):
    alone = tiny(name="alone", keep=("teacher",), **SHARDS)
    spread = tiny(name="spread", keep=("teacher",), **SHARDS)
    succeed("synthesize", alone)
    answer = succeed("synthesize", spread, joined)
    assert "4 workers, one a GPU" in answer.err
    assert contents(run_of(spread) / "synthetic") == contents(run_of(alone) / "synthetic")

    workers = {e["worker"]: e for e in events(run_of(spread), "worker_started")}
    assert len(workers) == 4
    assert {len(e["gpus"]) for e in workers.values()} == {1}
    assert len({(e["node"], e["gpus"][0]) for e in workers.values()}) == 4
    assert len({e["node"] for e in workers.values()}) == 2
    assert not events(run_of(spread), "worker_lost")

    log = events(run_of(spread), "unit_started", "unit_done")
    last_start = max(i for i, e in enumerate(log) if e["event"] == "unit_started")
    for name in workers:
        # A worker that is done with a unit is given the next at once, until none is left.
        mine = [e["event"] for e in log if e["worker"] == name]
        assert mine == ["unit_started", "unit_done"] * (len(mine) // 2)
        done = [i for i, e in enumerate(log) if (e["worker"], e["event"]) == (name, "unit_done")]
        assert all(log[i + 1]["worker"] == name for i in done if i < last_start)
        assert done[-1] > last_start

    # While shards are left that nobody has begun, a worker stays with its own.
    starts = [e for e in log if e["event"] == "unit_started"]
    shards = [(e["worker"], e["unit"].rpartition("/")[0]) for e in starts]
    first_to_touch = dict(reversed([(shard, worker) for worker, shard in shards]))
    own = sum(first_to_touch[shard] == worker for worker, shard in shards)
    assert own >= len(shards) - len(workers)


@pytest.mark.drill
def test_a_plan_of_a_cluster_is_measured_by_one_of_its_workers(tiny, joined):
    config = tiny(name="planned", keep=("teacher",))
    before = contents(run_of(config))
    answer = succeed("synthesize", config, joined, "--plan")
    assert "as one worker of the cluster would do it" in " ".join(answer.out.split())
    assert "4 workers, one a GPU" in answer.err
    assert contents(run_of(config)) == before


def test_more_workers_than_gpus_are_one_line(tiny, joined):
    line = call("synthesize", tiny(keep=("teacher",)), joined, "cluster.num_workers=5").refusal()
    assert "cluster.num_workers: 5 wanted, but Ray has 4 GPUs" in line


@pytest.fixture(scope="module")
def surrogate(finished, tmp_path_factory):
    """A configuration whose run has teacher and surrogate data set, to be copied."""
    import shutil

    from tiny_run import write_config

    config = write_config(tmp_path_factory.mktemp("surrogate"), **TRAINING)
    shutil.copytree(finished / "runs" / "tiny" / "teacher", run_of(config) / "teacher")
    succeed("synthesize", config)
    return config


@pytest.fixture
def to_train(surrogate, tmp_path):
    """A function that gives a configuration whose run lacks only the student."""
    import shutil

    from tiny_run import write_config

    def make(name, **changes):
        config = write_config(tmp_path / name, **{**TRAINING, **changes})
        for stage in ("teacher", "synthetic"):
            shutil.copytree(run_of(surrogate) / stage, run_of(config) / stage)
        return config

    return make


@pytest.mark.drill
@pytest.mark.parametrize(("num_batches", "sizes"), [(5, (1, 2, 3)), (6, (1, 2, 3))])
def test_any_number_of_training_workers_gives_the_same_student(
    to_train, joined, num_batches, sizes
):
    changes = {"training__gradrefine": {"num_batches": num_batches}}
    alone = to_train("alone", **changes)
    succeed("train", alone)
    assert len(events(run_of(alone), "update")) >= 5
    expected = contents(run_of(alone) / "student")
    for num_workers in sizes:
        config = to_train(f"{num_workers}", **changes)
        succeed("train", config, joined, f"cluster.num_workers={num_workers}")
        started = events(run_of(config), "worker_started")
        assert {e["worker"] for e in started} == {f"rank-{n}" for n in range(num_workers)}
        # Parameters and BatchNorm buffers, losses, agreement rates, hold-out metrics: no tolerance.
        assert contents(run_of(config) / "student") == expected
        assert not (run_of(config) / ".ray-train").exists()


def test_verdicts_equal_those_of_one_process(tiny, joined):
    attacks = [{"name": "pgd", "num_steps": 40}, {"name": "fgsm"}]
    changes = {"evaluation__slice_size": 7, "evaluation__attacks": attacks}
    keep = ("teacher", "synthetic", "student")
    alone, spread = (tiny(name=name, keep=keep, **changes) for name in ("alone", "spread"))
    succeed("evaluate", alone)
    succeed("evaluate", spread, joined)
    slices = [contents(run_of(config) / "evaluation" / "slices") for config in (alone, spread)]
    assert len(slices[0]) == 2 * 3 * 6
    for name, content in slices[0].items():
        assert verdicts(content) == verdicts(slices[1][name])
    assert len({e["worker"] for e in events(run_of(spread), "unit_started")}) > 1


def verdicts(content):
    return {k: v for k, v in json.loads(content).items() if "seconds" not in k}


@pytest.mark.drill
def test_an_audit_equals_that_of_one_process(tiny, joined):
    settings = ("audit.num_images=20", "audit.autoattack=false", "--json")
    alone, spread = (
        tiny(name=name, keep=("teacher", "synthetic", "student")) for name in ("alone", "spread")
    )
    here, there = call("audit", alone, *settings), call("audit", spread, joined, *settings)
    assert "Audit, student: 0/16 checks" in there.err
    assert here.code == there.code
    reports = [
        {k: v for k, v in report.items() if k != "seconds"}
        for answer in (here, there)
        for report in json.loads(answer.out)
    ]
    assert len(reports) == 2
    assert reports[0] == reports[1]


@pytest.mark.drill
def test_a_run_through_the_object_store_gives_the_same_student(finished, tiny, joined):
    through_files = finished / "runs" / "tiny"
    in_memory = tiny(name="memory", keep=("teacher",))
    changes = (joined, "storage.sink=object_store", "cluster.num_workers=2")
    line = call("synthesize", in_memory, *changes).refusal()
    assert "storage.sink" in line
    assert "dfshield run" in line
    succeed("run", in_memory, *changes)

    files, memory = contents(through_files), contents(run_of(in_memory))
    assert parts(through_files)
    assert not parts(run_of(in_memory))
    for name in files:
        if name.startswith(("student/", "synthetic/summary")) and name != "student/README.md":
            assert memory[name] == files[name], name
    assert "report/index.html" in memory
    state = json.loads(succeed("status", run_of(in_memory), "--json").out)
    assert state["seeds"][0]["synthesize"]["state"] == "done"

    model = "student/model.safetensors"
    before = stamps(run_of(in_memory))[model]
    again = succeed("run", in_memory, *changes)
    assert "Synthesizing" not in again.err
    assert stamps(run_of(in_memory))[model] == before


@pytest.mark.drill
def test_synchronised_batchnorm_is_hardened_by_two_workers_as_by_one(tmp_path):
    factories = Path(__file__).parents[1] / "classifiers"
    teacher = {
        "source": "python:odd_factories:make",
        "options": {"kind": "synchronised"},
        "input_shape": [1, 8, 8],
        "num_classes": 10,
    }
    students = []
    for name, options in (("one", ()), ("two", ("address=local", "num_workers=2"))):
        config = write_config(tmp_path / name, teacher=teacher)
        process = start("run", config, *(f"cluster.{o}" for o in options), cwd=factories)
        answer = ended(process, seconds=400)
        assert answer.code == 0, answer
        students.append((run_of(config) / "student/model.safetensors").read_bytes())
    assert students[0] == students[1]
