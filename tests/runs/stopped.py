"""A training that is asked to stop: it writes a checkpoint and ends."""

import torch

from dfshield.runs import GroupWorker
from dfshield.training import SingleWorker


def run_stopped(executor, job, *, engine, monitor, stop_requested):
    """Run a training of one worker until it is asked to stop."""
    engine.bind()
    job.run(
        GroupWorker(
            device=torch.device("cpu"),
            monitor=monitor,
            group=SingleWorker(),
            get=executor.get,
            report=lambda _: None,
            stop_requested=stop_requested,
        )
    )
    raise KeyboardInterrupt
