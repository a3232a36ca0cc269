"""What models answer with, through `doctor` and `run`: every kind gives a student or one line."""

import json
import sys
from pathlib import Path

import pytest
from tiny_run import call, odd_teacher, run_of, write_config

sys.path.insert(0, str(Path(__file__).parents[2] / "classifiers"))

from odd_factories import LOGITS, NO_LOGITS, PRECISIONS, PROBABILITIES, STRUCTURES

NOT_FLOAT32 = ("half", "bfloat16", "double", "half that casts", "double that casts")
REFUSED = {
    **dict.fromkeys([*PROBABILITIES, "softmax in train mode"], "LogProbabilities"),
    **dict.fromkeys([*NOT_FLOAT32, "bfloat16 softmax"], "model.float()"),
    **dict.fromkeys(NO_LOGITS, "the model must return logits"),
    "one number": "the model returns one number",
}


OF_CI = ("half that casts", "log-softmax", "named tuple", "sides of length 1", "synchronised")
KINDS = (*PRECISIONS, *PROBABILITIES, *LOGITS, *STRUCTURES, *NO_LOGITS, "softmax in train mode")


@pytest.mark.parametrize(
    "kind", [k if k in OF_CI else pytest.param(k, marks=pytest.mark.drill) for k in KINDS]
)
def test_run(kind, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "classifiers")
    config = write_config(tmp_path, teacher=odd_teacher(kind))
    doctor = call("doctor", config, "--json")
    failed = [c["told"] for c in json.loads(doctor.out) if c["verdict"] == "failed"]
    assert list(tmp_path.iterdir()) == [config]
    answer = call("run", config)
    if kind in REFUSED:
        assert doctor.code == 3
        assert REFUSED[kind] in failed[0]
        assert answer.refusal() == f"Error: {failed[0]}"
        assert not (run_of(config) / "teacher").exists()
    else:
        assert doctor.code == 0, doctor
        assert answer.code == 0, answer
        assert (run_of(config) / "student" / "model.safetensors").exists()
