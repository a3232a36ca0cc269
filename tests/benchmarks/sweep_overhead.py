"""What a sweep on Ray costs over the same trainings, one after the other in one process.

    python tests/benchmarks/sweep_overhead.py

Trains the same four students twice, one at a time on one thread: by a sweep without Ray, and by one
on a Ray of its own. Prints the CPU time of each, of its process and of all that it starts: Ray's
daemons and the processes of the trials with their imports. The students are equal. Both sides work
at the same time, on a core each, since a machine's speed changes by more than what is looked for
from one quarter of an hour to the next; the side that ends first goes on with trainings that do
not count until the other has ended, so that both share the machine from beginning to end.
"""

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import torch

from dfshield.config import Config, config_from
from dfshield.distributed import RayExecutor
from dfshield.runs import InProcessExecutor, Run
from dfshield.runs.sweep import InProcessRunner, Sweep
from dfshield.storage import Folder

TRIALS, EPOCHS = 4, 60
PLAIN, RAY = "plain", "ray"


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
    """Adds up the CPU time of this process and all below it, those that have ended too.

    What it takes itself is left out.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._spent: dict[tuple[int, float], float] = {}
        self._own = 0.0
        self._ended = threading.Event()

    def look(self) -> float:
        start = time.thread_time()
        own = psutil.Process()
        for process in (own, *own.children(recursive=True)):
            try:
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        self._own += time.thread_time() - start
        return sum(self._spent.values()) - self._own

    def run(self) -> None:
        while not self._ended.wait(0.3):
            self.look()

    def end(self) -> None:
        self._ended.set()
        self.join()


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds that some work takes."""
    meter, start = Meter(), time.perf_counter()
    before = meter.look()
    meter.start()
    work()
    meter.end()
    return meter.look() - before, time.perf_counter() - start


def one_after_the_other(config: Config) -> None:
    executor = InProcessExecutor()
    Sweep(config, executor=executor, runner=InProcessRunner(executor)).run()


def on_ray(config: Config, folder: str) -> None:
    with RayExecutor("local", folder=Folder.at(folder), num_workers=2) as executor:
        Sweep(config, executor=executor, runner=executor).run()


def side(folder: str, name: str, begin: Barrier, told: "SimpleQueue[tuple[float, float]]") -> None:
    """Prepare one side, begin with the other, tell what it took, and keep the core busy."""
    torch.set_num_threads(1)
    config, more = prepared(folder, name), prepared(folder, f"{name}-more")
    begin.wait()
    told.put(spent(lambda: on_ray(config, folder) if name == RAY else one_after_the_other(config)))
    one_after_the_other(more)


def prepared(folder: str, name: str) -> Config:
    config = config_from(settings(folder, name))
    Run(config).run(["teacher", "synthesize"])
    return config


def students(folder: str, name: str) -> dict[str, bytes]:
    trials = Path(folder, name, "sweeps", "sweep", "trials").iterdir()
    return {t.name: (t / "student" / "model.safetensors").read_bytes() for t in trials}


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    begin, told = context.Barrier(2), {name: context.SimpleQueue() for name in (PLAIN, RAY)}
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            context.Process(target=side, args=(folder, name, begin, told[name])) for name in told
        ]
        for process in sides:
            process.start()
        taken = {name: told[name].get() for name in told}
        for process in sides:
            process.kill()
            process.join()
        assert students(folder, PLAIN) == students(folder, RAY)
    for name, (cpu, wall) in taken.items():
        print(f"{name}: {cpu:.0f} CPU seconds, {wall:.0f} s")
    plain, ray = taken[PLAIN][0], taken[RAY][0]
    print(f"{plain / TRIALS:.0f} CPU seconds a training; ratio {ray / plain:.3f}")


if __name__ == "__main__":
    main()
