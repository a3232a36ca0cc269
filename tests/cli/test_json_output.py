"""``--json``: one document on standard output, whoever else prints."""

import json

import pytest
from tiny_run import call, ended, run_of, start, succeed, write_config

CHATTY = """
import atexit
import ctypes
import logging
import os
import subprocess
import sys
import warnings

import torch
from torch import nn

print("printed at import")
sys.__stdout__.write("past what stands in its place\\n")
sys.stderr.write("an error line\\n")
ctypes.CDLL(None).puts(b"printed in C")
subprocess.run(["echo", "printed by a process"], check=True)
os.write(1, b"printed to the descriptor\\n")
atexit.register(print, "printed at exit")
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
logging.getLogger("chatty").info("logged")
torch.set_grad_enabled(False)
warnings.simplefilter("error")


class Net(nn.Sequential):
    def forward(self, x):
        print("printed in forward")
        return super().forward(x)


def make():
    print("printed by the factory", flush=True)
    return Net(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )
"""
SOURCE = "python:chatty:make"


@pytest.fixture
def chatty(tmp_path, monkeypatch):
    """The configuration of a run whose factory prints, in the current folder."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path, teacher__source=SOURCE, teacher__options={})


@pytest.mark.slow
def test_every_command_prints_one_document(chatty):
    answer = succeed("run", chatty, "--json")
    assert "printed by the factory" in answer.err
    assert "printed in forward" in answer.err
    run = json.loads(answer.out)
    assert [r["label"] for r in run["results"]] == ["clean", "clean", "PGD-3", "PGD-3"]
    for command in ("teacher", "synthesize", "train", "evaluate"):
        assert json.loads(succeed(command, chatty, "--json").out)["status"]
    for command in ("synthesize", "train"):
        assert json.loads(succeed(command, chatty, "--plan", "--json").out)["seconds"] > 0
    audit = call("audit", chatty, "audit.autoattack=false", "audit.num_images=20", "--json")
    assert json.loads(audit.out)[0]["checks"]
    (report,) = json.loads(succeed("verify", run_of(chatty), "--resynthesize", 1, "--json").out)
    assert report["resynthesis"]["differing"] == []
    assert json.loads(succeed("status", run_of(chatty), "--json").out)["driver"] is not None
    assert json.loads(call("doctor", chatty, "--json").out)
    axis = "sweep.parameters.training.gradrefine.tau={grid: [0.5]}"
    swept = json.loads(succeed("sweep", chatty, axis, "--json").out)
    assert [trial["state"] for trial in swept["trials"]] == ["done"]


def test_nothing_else_reaches_the_standard_output_of_the_process(chatty):
    model = ["--model", SOURCE, "--data", "digits", "--num-images", 20, "--eps", "0.1"]
    attack = "evaluation.attacks=[{name: pgd, num_steps: 2}]"
    answer = ended(start("evaluate", *model, attack, "--json", cwd=chatty.parent))
    assert answer.code == 0, answer
    assert len(json.loads(answer.out)["results"]) == 2
    for where in (
        "at import",
        "in C",
        "by a process",
        "to the descriptor",
        "at exit",
        "in forward",
        "by the factory",
    ):
        assert f"printed {where}" in answer.err
    assert "INFO:chatty:logged" in answer.err
    assert "past what stands in its place" in answer.err


def test_an_error_leaves_standard_output_empty(chatty):
    answer = ended(
        start("audit", "--model", f"{SOURCE}d", "--data", "digits", "--json", cwd=chatty.parent)
    )
    assert (answer.code, answer.out) == (2, "")
    assert "Error: teacher: source: chatty has nothing to call named 'maked'" in answer.err


def test_without_the_option_it_is_printed_where_it_was_meant_to_be(chatty):
    answer = succeed("teacher", chatty)
    assert "printed by the factory" in answer.out
