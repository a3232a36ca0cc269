"""MLflow, Weights & Biases and stores: what is kept there, and that a resumed run goes on in it."""

import importlib.machinery
import importlib.util
import json
import os
import struct
import sys

import psutil
import pytest
from event_files import event_files, scalars
from tiny_run import call, ended, events, run_of, start, succeed, write_config

from dfshield.storage import Folder
from dfshield.trackers import TRACKERS, Point, TrackedRun, base, tensorboard

RAISE = "synthesis.num_images=120"  # one part more


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    """A client of a file store, and the runs that it holds."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient()

    def runs():
        (home,) = [e for e in client.search_experiments() if e.name != "Default"]
        return home.name, client.search_runs([home.experiment_id])

    return client, runs


def test_mlflow_keeps_every_value_and_a_resumed_run_goes_on_in_the_same(tiny, mlflow_store):
    client, runs = mlflow_store
    config = tiny(keep=("teacher",), trackers=["mlflow"])
    succeed("synthesize", config)
    succeed("synthesize", config, RAISE)  # a parameter that has changed
    home, (run,) = runs()
    assert (home, run.info.run_name, run.info.status) == ("dfshield", "tiny", "FINISHED")
    assert run.data.params["training.gradrefine.num_batches"] == "2"
    assert run.data.params["synthesis.num_images"] == "80"
    values = client.get_metric_history(run.info.run_id, "synthesis/loss_tv")
    told = events(run_of(config), "part_committed")
    assert [v.step for v in values] == [40, 80, 100, 140]
    assert [v.value for v in values] == [part["loss_tv"] for part in told]
    assert not (run_of(config) / "tensorboard").exists()

    # The same name in another folder, or begun afresh, is another run.
    afresh = tiny(keep=("teacher",), name="afresh", trackers=["mlflow"])
    succeed("synthesize", afresh)
    assert len(runs()[1]) == 2


def test_an_mlflow_run_that_fails_is_told_so_and_names_may_hold_anything(mlflow_store, tmp_path):
    _, runs = mlflow_store
    run = TrackedRun("x", Folder.at(tmp_path), {"teacher.source": "dfshield:resnet8"})
    tracker = TRACKERS.make("mlflow").open(run)
    metrics = {"student/PGD-20 (5 restarts)": 0.5, **{f"m{n}": float(n) for n in range(1500)}}
    tracker.log(Point("evaluation", metrics, 0))
    tracker.close(failed=True)
    _, (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.metrics["evaluation/student/PGD-20 _5 restarts_"] == 0.5
    assert run.data.metrics["evaluation/m1499"] == 1499


def test_a_server_that_is_down_costs_one_line_without_its_password(tiny, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = tiny(keep=("teacher",), trackers=["mlflow", "tensorboard"])
    answer = succeed("synthesize", config)
    (line,) = [line for line in answer.err.splitlines() if "trackers" in line]
    assert line.startswith("trackers: mlflow is left out from here on: ")
    assert "secret" not in answer.err
    assert len(event_files(run_of(config))) == 1


def wandb_records(file):
    """The records of a run that W&B has written for a later upload: a log as LevelDB writes it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, body = file.read_bytes(), b""
    position = 7
    while position < len(data):
        left = 32768 - position % 32768
        if left < 7:  # no room for a header in this block
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        body += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(body)
            body = b""


@pytest.mark.drill
@pytest.mark.slow
def test_wandb_keeps_every_value_and_a_resumed_run_goes_on_in_the_same(tiny, tmp_path):
    config = tiny(keep=("teacher",), trackers=["wandb"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folders = {"HOME": str(tmp_path), "WANDB_DIR": str(tmp_path), "WANDB_MODE": "offline"}
    for override in ("synthesis.num_images=80", RAISE):
        process = start("synthesize", config, override, env=kept | folders)
        answer = ended(process)
        assert answer.code == 0, answer
        said = [line for line in answer.err.splitlines() if "wandb" in line]
        assert said == [f"Surrogate images: {run_of(config)}/synthetic"]  # the folder's own name
        assert not [p for p in psutil.process_iter() if belongs_to(p, tmp_path)]
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name  # the id of the run
    assert json.loads((run_of(config) / "trackers.json").read_text())["id"] in first.name
    steps, keys = [], set()
    for record in [*wandb_records(first), *wandb_records(second)]:
        if record.WhichOneof("record_type") == "run":
            assert (record.run.project, record.run.display_name) == ("dfshield", "tiny")
            keys |= {item.key for item in record.run.config.update}
        row = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
        if row:
            steps.append(int(row["synthesis/step"]))
            told = events(run_of(config), "part_committed")[len(steps) - 1]
            assert float(row["synthesis/loss_feature"]) == told["loss_feature"]
    assert steps == [40, 80, 100, 140]
    assert "training.gradrefine.tau" in keys


def belongs_to(process, folder):
    try:
        return process.environ().get("WANDB_DIR") == str(folder)
    except psutil.Error:
        return False


def test_wandb_without_a_key_asks_nobody(tiny, tmp_path, monkeypatch):
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tiny(keep=("teacher",), trackers=["wandb"])
    answer = succeed("synthesize", config)
    wandb.teardown()
    (line,) = [line for line in answer.err.splitlines() if "trackers" in line]
    assert "no API key: run `wandb login`" in line


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_missing_package_is_one_line_before_any_work(tmp_path, monkeypatch, name, folder):
    """A folder of that name beside the command, as W&B makes one, is no package."""
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True) if folder else None
    find = importlib.util.find_spec
    monkeypatch.setattr(
        base.importlib.util, "find_spec", lambda n, *a: spec if n == name else find(n, *a)
    )
    config = write_config(tmp_path)
    line = call("run", config, f"trackers=[tensorboard, {name}]").refusal()
    assert f"trackers: {name} is not installed: pip install {name}" in line
    assert not run_of(config).exists()


def test_nobody_needs_what_is_not_asked_for(tiny, monkeypatch):
    for name in ("mlflow", "wandb", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    config = tiny(keep=("teacher",), trackers=[])
    assert "trackers" not in succeed("synthesize", config).err


def test_a_run_on_a_store_has_its_event_files_there(tiny, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tensorboard.tempfile, "tempdir", None)
    config = tiny(keep=("teacher",))
    store = Folder.at("s3://bucket/runs/tiny")
    teacher = Folder.at(run_of(config) / "teacher")
    for name in teacher.list():
        store.child("teacher").write_bytes(name, teacher.read_bytes(name))
    where = "storage.path=s3://bucket/runs"
    succeed("synthesize", config, where)
    succeed("synthesize", config, where, RAISE)
    files = store.list("tensorboard")
    assert len(files) == 2
    steps = []
    for file in sorted(files):
        copy = tmp_path / file.rpartition("/")[2]
        copy.write_bytes(store.read_bytes(file))
        steps += [step for step, _ in scalars(copy)["synthesis/loss"]]
    assert steps == [40, 80, 100, 140]
    assert not [p for p in (tmp_path / "tmp").iterdir() if p.name.startswith("dfshield-")]


def test_on_a_store_the_file_so_far_goes_up_while_the_run_works(s3):
    run = TrackedRun("x", Folder.at("s3://bucket/runs/x"), {})
    store = run.folder.child("tensorboard")
    tracker = TRACKERS.make("tensorboard").open(run)
    assert tracker.flush_every > 0
    sizes = []
    for step in range(3):
        tracker.log(Point("train", {"loss": 1.0}, step))
        tracker.flush()
        (name,) = store.list()
        sizes.append(len(store.read_bytes(name)))
    tracker.close(failed=False)
    assert sizes == sorted(set(sizes))
