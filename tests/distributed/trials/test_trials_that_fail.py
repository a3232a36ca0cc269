"""What becomes of trials that Tune has given up: a GPU that cannot be used is no result."""

import json
from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError
from tiny_run import write_config

from dfshield.config import load_config
from dfshield.distributed.trials.sweep_driver import SweepDriver
from dfshield.errors import DfshieldError, UnfitDeviceError
from dfshield.runs import SilentMonitor
from dfshield.runs.sweep import TrialRecord, make_trial, read_trial
from dfshield.storage import Folder

POINT = {"values": {"training.gradrefine.tau": 0.5}, "seed": 0}
FULL = UnfitDeviceError("out of GPU memory (CUDA out of memory. Tried to allocate 2 GiB): do this")


class Heard(SilentMonitor):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    ("what", "error", "state"),
    [
        ("error", FULL, "running"),
        ("recover", FULL, "running"),
        ("error", DfshieldError("no such thing"), "failed"),
    ],
)
def test_a_full_gpu_leaves_a_trial_to_the_next_command(tmp_path, what, error, state):
    axes = {"training.gradrefine.tau": {"grid": [0.0, 0.5]}}
    config = load_config(str(write_config(tmp_path, sweep__parameters=axes)), ())
    root, monitor, ended = Folder.at(tmp_path / "sweep"), Heard(), []
    study = SimpleNamespace(root=root.uri, config=config, deadline=lambda: 0.0)
    driver = SweepDriver(study, None, monitor, ended.append)
    name = make_trial(config, POINT["values"], POINT["seed"]).name
    TrialRecord(name=name, **POINT, state="running", started="2026-01-01").write(root)
    kept = tmp_path / "error.pkl"
    kept.write_bytes(cloudpickle.dumps(RayTaskError("trainable", "a traceback", error)))
    trial = SimpleNamespace(config={"point": json.dumps(POINT)}, pickled_error_file=str(kept))
    driver.events.put((what, trial))
    driver.record_events()
    assert read_trial(root, name).state == state
    assert [record.reason for record in ended] == ([str(error)] if state == "failed" else [])
    if what == "error" and error is FULL:
        assert monitor.said == [f"{name}: {FULL}; the next command goes on with it"]
