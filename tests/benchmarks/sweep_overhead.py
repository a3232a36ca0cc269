"""What a sweep on Ray costs over the same trainings, one after the other in one process.

    python tests/benchmarks/sweep_overhead.py

Trains the same four students twice, one at a time on one thread: by a sweep without Ray, and by one
on a Ray of its own. Prints the CPU time of each, of this process and of all that it starts: Ray's
daemons and the processes of the trials with their imports. The students are equal. One at a time,
since two that share caches are slower with Ray or without.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from dfshield.config import Config, config_from
from dfshield.distributed import RayExecutor
from dfshield.runs import InProcessExecutor, Run, StageName
from dfshield.runs.sweep import InProcessRunner, Sweep
from dfshield.storage import Folder

TRIALS, EPOCHS = 4, 45


def settings(folder: str, name: str) -> dict:
    return {
        "name": name,
        "teacher": {
            "source": "dfshield:resnet8",
            "options": {"width": 8},
            "input_shape": [1, 8, 8],
            "train": {"data": {"name": "digits"}, "epochs": 2},
        },
        "threat": {"eps": 0.1},
        "synthesis": {"num_images": 2000, "num_holdout": 200, "iterations": 20, "jitter": 0},
        "training": {"epochs": EPOCHS, "batch_size": 50, "gradrefine": {"num_batches": 4}},
        "storage": {"path": folder, "part_size": 1000, "shard_size": 2000},
        "sweep": {
            "parameters": {"training.gradrefine.tau": {"grid": [0, 0.25, 0.5, 0.75]}},
            "max_concurrent": 1,
        },
    }


class Meter(threading.Thread):
    """Adds up the CPU time of this process and all below it, those that have ended too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._spent: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()

    def look(self) -> float:
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            try:
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return sum(self._spent.values())

    def run(self) -> None:
        while not self._ended.wait(0.3):
            self.look()

    def end(self) -> None:
        self._ended.set()
        self.join()


def spent(work: Callable[[], object]) -> float:
    """Return the CPU seconds that some work takes."""
    meter = Meter()
    before = meter.look()
    meter.start()
    work()
    meter.end()
    return meter.look() - before


def prepared(folder: str, name: str) -> Config:
    config = config_from(settings(folder, name))
    Run(config).run([StageName.TEACHER, StageName.SYNTHESIZE])
    return config


def on_ray(config: Config, folder: str) -> None:
    with RayExecutor("local", folder=Folder.at(folder), num_workers=2) as executor:
        Sweep(config, executor=executor, runner=executor).run()


def students(folder: str, name: str) -> dict[str, bytes]:
    trials = Path(folder, name, "sweeps", "sweep", "trials").iterdir()
    return {t.name: (t / "student" / "model.safetensors").read_bytes() for t in trials}


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        alone, spread = prepared(folder, "alone"), prepared(folder, "spread")
        executor = InProcessExecutor()
        sweep = Sweep(alone, executor=executor, runner=InProcessRunner(executor))
        start = time.perf_counter()
        plain = spent(sweep.run)
        middle = time.perf_counter()
        through_ray = spent(lambda: on_ray(spread, folder))
        end = time.perf_counter()
        assert students(folder, "alone") == students(folder, "spread")
    print(f"one after the other: {plain:.0f} CPU seconds, {middle - start:.0f} s")
    print(f"a sweep on Ray: {through_ray:.0f} CPU seconds, {end - middle:.0f} s")
    print(f"{plain / TRIALS:.0f} CPU seconds a training; ratio {through_ray / plain:.3f}")


if __name__ == "__main__":
    main()
