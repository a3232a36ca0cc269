"""What Ray costs over the plain loop of the inversion engine, and how soon it gets to work.

    python tests/benchmarks/ray_overhead.py

Makes the same parts with one, two and four processes, each on one thread: plain loops, and Ray
actors, by turns, since a shared machine is not always equally fast. As many plain loops run at once
as actors do, since processes that share cores and caches are slower, with Ray or without. Prints
medians of the CPU time per part: of the plain loops, of this process with all of Ray's (driver,
raylet, GCS, queue, actors), and what of that was not the actors'. Starting is left out: it is
printed by itself, as the time from the command to the start of the first part.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import numpy as np
import psutil
import ray

import dfshield
from dfshield.config import Config, SynthesisConfig, config_from, dump_config
from dfshield.distributed import RayExecutor
from dfshield.runs import Engine, Run, SilentMonitor
from dfshield.runs.work.part_checkpoint import PartCheckpoint, PartState
from dfshield.runs.work.synthesis import SynthesisTask, bound_synthesizer, make_part
from dfshield.storage import Folder, read_manifest, write_part

WORKERS, ROUNDS, WARM_UP = (1, 2, 4), 9, 2
SIZE, ITERATIONS, PARTS = 200, 400, max(WORKERS) * ROUNDS


def settings(folder: str, name: str) -> dict:
    return {
        "name": name,
        "teacher": {
            "source": "dfshield:resnet8",
            "options": {"width": 8},
            "input_shape": [1, 8, 8],
            "train": {"data": {"name": "digits"}, "epochs": 2},
        },
        "synthesis": {
            "num_images": PARTS * SIZE,
            "num_holdout": 0,
            "iterations": ITERATIONS,
            "batch_size": SIZE,
            "jitter": 0,
        },
        "training": {"gradrefine": {"num_batches": 1}},
        "storage": {"path": folder, "part_size": SIZE, "shard_size": PARTS * SIZE},
        "cluster": {"num_workers": 1},
    }


def cpu_seconds() -> np.ndarray:
    """CPU time so far of this process and all that it has started, and of that without workers."""
    me = psutil.Process()
    spent = np.zeros(2)
    for process in (me, *me.children(recursive=True)):
        times = process.cpu_times()
        is_worker = process.cmdline()[:1] and process.cmdline()[0].startswith("ray::PoolWorker")
        spent += (times.user + times.system) * np.array([1, 0 if is_worker else 1])
    return spent


def plain_loop(root: str, synthesis: SynthesisConfig, number: int) -> float:
    """Make a part without Ray, reading the classifier as an actor does; return its CPU seconds."""
    start = time.process_time()
    data = Folder.at(f"{root}/synthetic")
    manifest = read_manifest(data)
    part = manifest.parts[number]
    engine = Engine.from_json(manifest.engine)
    synthesizer = bound_synthesizer(synthesis, dfshield.load(f"{root}/teacher"), engine, data)
    plain = Folder.at(f"{root}/plain")
    engine.bind()
    checkpoint = PartCheckpoint(
        plain, manifest, part, state_type=None, every=None, preempted=lambda: False
    )
    arrays = make_part(
        synthesizer,
        manifest,
        part,
        per_pass=engine.batches_per_pass,
        state=PartState(),
        checkpoint=checkpoint,
        progress=lambda _: None,
    )
    write_part(plain, manifest, part, arrays)
    return time.process_time() - start


def compared(config: Config, root: Folder, workers: int) -> np.ndarray:
    """Make parts both ways, by turns: a round is one for every process.

    Returns the medians over the rounds after the first two, in which allocators settle: CPU seconds
    of a part in the plain loops and through Ray, what of the latter was not spent by the workers,
    and the ratio.
    """
    folder = root.child("synthetic")
    manifest = read_manifest(folder)
    task = SynthesisTask(f"{root}/teacher", folder.uri, config.synthesis, "parquet")
    engine, monitor = Engine.from_json(manifest.engine), SilentMonitor()
    rows = []
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as loops,
        RayExecutor("local", folder=root, num_workers=workers) as executor,
    ):
        for number in range(ROUNDS):
            numbers = range(number * workers, (number + 1) * workers)
            spent = loops.map(partial(plain_loop, str(root), config.synthesis), numbers)
            plain = mean(spent)
            start = cpu_seconds()
            groups = [[manifest.parts[n]] for n in numbers]
            list(executor.map(task, groups, engine=engine, monitor=monitor))
            through_ray, of_ray = (cpu_seconds() - start) / workers
            rows.append((plain, through_ray, of_ray, through_ray / plain))
    for made in ("synthetic/data", "plain"):
        root.child(*made.split("/")).remove()
    return np.median(rows[WARM_UP:], axis=0)


def seconds_to_first_part(config: Config, folder: str) -> float:
    """Return how long `dfshield synthesize` takes until its first part begins."""
    path = Path(folder) / "first.yaml"
    path.write_text(dump_config(config))
    log = Path(folder) / config.name / "events.jsonl"
    start = time.time()
    command = Path(sys.executable).with_name("dfshield")
    process = subprocess.Popen([command, "synthesize", path], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            for event in map(json.loads, log.read_text().splitlines() if log.exists() else []):
                began = datetime.fromisoformat(event["time"]).timestamp()
                if event["event"] == "unit_started" and began > start:
                    return began - start
            time.sleep(0.1)
        raise RuntimeError("the synthesis ended before a part began")
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        config = config_from(settings(folder, "run"))
        run = Run(config)
        run.run(["teacher"])
        print(f"first part after {seconds_to_first_part(config, folder):.1f} s")
        root = Folder.at(folder).child("run")
        ray.init(num_cpus=max(WORKERS), include_dashboard=False, log_to_driver=False)
        print("workers | plain loop | through Ray | ratio | Ray's own")
        for workers in WORKERS:
            plain, driven, own, ratio = compared(config, root, workers)
            row = (f"{plain:.2f} s", f"{driven:.2f} s", f"{ratio:.3f}", f"{own:.2f} s")
            print(" | ".join((str(workers), *row)))
        ray.shutdown()


if __name__ == "__main__":
    main()
