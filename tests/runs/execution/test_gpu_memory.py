"""Work in this process that runs out of a GPU's memory says so in one line, with the remedy."""

import pytest
import torch

from dfshield.errors import UnfitDeviceError
from dfshield.runs import InProcessExecutor, SilentMonitor
from dfshield.runs.execution.gpu_memory import format_out_of_memory

TOLD = """CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 3 GiB of which
1 GiB is free. See documentation for Memory Management"""


class Full:
    """A task, a job and a group job for which a GPU has no room."""

    max_workers = 1

    def __init__(self, *, at_once=False):
        self.at_once = at_once

    def prepare(self, worker):
        return self.run if self.at_once is False else self.run(worker)

    def run(self, worker):
        if worker != "fits":
            raise torch.OutOfMemoryError(TOLD)
        return worker

    def label(self, unit):
        return f"unit {unit}"


def mapped(executor, task, unit="large"):
    engine = executor.engine()
    return list(executor.map(task, [[unit, "fits"]], engine=engine, monitor=SilentMonitor()))


@pytest.mark.parametrize(
    "work",
    [
        lambda executor, how: mapped(executor, Full()),
        lambda executor, how: mapped(executor, Full(at_once=True)),
        lambda executor, how: executor.run(Full(), **how),
        lambda executor, how: executor.run_group(Full(), **how),
    ],
)
def test_a_full_gpu_is_one_line_with_the_remedy(work):
    executor = InProcessExecutor()
    how = {"engine": executor.engine(), "monitor": SilentMonitor()}
    with pytest.raises(UnfitDeviceError) as raised:
        work(executor, how)
    text = str(raised.value)
    assert text.startswith("out of GPU memory (CUDA out of memory. Tried to allocate 2.00 GiB): ")
    assert "cluster.gpus_per_worker=1" in text
    assert "\n" not in text
    assert raised.value.exit_code == 3


def test_other_units_are_done_first():
    executor, done = InProcessExecutor(), []
    units = executor.map(
        Full(), [["large", "fits"]], engine=executor.engine(), monitor=SilentMonitor()
    )
    with pytest.raises(UnfitDeviceError):
        done.extend(made.unit for made in units)
    assert done == ["fits"]


@pytest.mark.parametrize("text", ["", "out of memory", TOLD])
def test_every_message_of_torch_becomes_one_line(text):
    assert "\n" not in format_out_of_memory(torch.OutOfMemoryError(text))
