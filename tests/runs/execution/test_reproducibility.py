"""Operations without a deterministic implementation are told to the run and to its status."""

import json
import warnings

import torch
from tiny_run import run_of, succeed

from dfshield.runs import Engine, Reproducibility, SilentMonitor, run_status


class Recorder(SilentMonitor):
    def __init__(self):
        self.events, self.said = [], []

    def emit(self, event, **fields):
        self.events.append({"event": event, **fields})

    def say(self, text):
        self.said.append(text)


def interpolate():
    warnings.warn("upsample_backward does not have a deterministic implementation", stacklevel=1)


def test_an_operation_is_reported_once_a_worker():
    recorder = Recorder()
    engine = Engine(device="cuda", threads=1, torch=str(torch.__version__))
    reproducibility = Reproducibility(engine, recorder, "worker-0")
    for _ in range(2):
        with reproducibility.watched():
            interpolate()
            interpolate()
    (event,) = recorder.events
    assert event["operation"] == "upsample_backward"
    assert event["worker"] == "worker-0"
    (line,) = recorder.said
    assert "not byte-reproducible" in line


def test_a_run_keeps_what_was_reported(tiny):
    config = tiny(keep=("teacher",))
    succeed("synthesize", config)
    run = run_of(config)
    assert run_status(str(run))["remarks"] == []
    told = {"time": "2026-01-01T00:00:00Z", "event": "not_reproducible", "worker": "worker-0"}
    with (run / "events.jsonl").open("a") as log:
        for operation in ("cumsum_cuda_kernel", "upsample_backward", "cumsum_cuda_kernel"):
            log.write(json.dumps({**told, "operation": operation}) + "\n")
    remarks = run_status(str(run))["remarks"]
    assert len(remarks) == 2
    assert all("not byte-reproducible" in remark for remark in remarks)
