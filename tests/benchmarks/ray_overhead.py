"""What Ray costs over the plain loop of the inversion engine, and how soon it gets to work.

    python tests/benchmarks/ray_overhead.py

Makes the same parts in a plain loop and through one, two and four Ray actors, each on one thread,
by turns, since a shared machine is not always equally fast. Prints the CPU time per part: of this
process in the plain loop, and of this process with all of Ray's (driver, raylet, GCS, mailbox,
actors); and what of that was not the actors'. More actors than cores share their caches, which
shows in their own time. Starting is left out: it is printed by itself, as the time from the command
to the start of the first part.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import mean

import numpy as np
import psutil
import ray

import dfshield
from dfshield.config import Config, config_from, dump_config
from dfshield.distributed import RayExecutor
from dfshield.runs import Engine, Run, SilentMonitor, StageName
from dfshield.runs.part_checkpoint import PartCheckpoint, PartState
from dfshield.runs.synthesis_task import SynthesisTask, inversion_of, make_part
from dfshield.storage import Folder, read_manifest, write_part

WORKERS, ROUNDS = (1, 2, 4), 3
SIZE, ITERATIONS, PARTS = 200, 1200, max(WORKERS) * ROUNDS


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


def compared(config: Config, root: Folder, workers: int) -> tuple[float, float, float]:
    """Make parts both ways, by turns: a round is one in the plain loop and one for every worker.

    Returns the mean CPU seconds of a part, the first round left out: in the plain loop, through
    Ray, and what of the latter was not spent by the workers.
    """
    folder, plain_folder = root.child("synthetic"), root.child(f"plain-{workers}")
    manifest = read_manifest(folder)
    inversion = inversion_of(dfshield.load(f"{root}/teacher"), config.synthesis)
    task = SynthesisTask(f"{root}/teacher", folder.uri, config.synthesis, "parquet")
    engine, monitor = Engine.from_json(manifest.engine), SilentMonitor()
    engine.bind()
    plain, driven = [], []
    with RayExecutor("local", folder=root, num_workers=workers) as executor:
        for number in range(ROUNDS):
            parts = manifest.parts[number * workers : (number + 1) * workers]
            start = time.process_time()
            arrays = make_part(
                inversion,
                manifest,
                parts[0],
                state=PartState(),
                checkpoint=PartCheckpoint(
                    plain_folder, manifest, parts[0], every=None, preempted=lambda: False
                ),
                progress=lambda _: None,
            )
            write_part(plain_folder, manifest, parts[0], arrays)
            plain.append(time.process_time() - start)
            start = cpu_seconds()
            list(executor.map(task, [[part] for part in parts], engine=engine, monitor=monitor))
            driven.append((cpu_seconds() - start) / workers)
    folder.child("data").remove()
    through_ray, of_ray = np.mean(driven[1:], axis=0)
    return mean(plain[1:]), through_ray, of_ray


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
        run.run([StageName.TEACHER])
        print(f"first part after {seconds_to_first_part(config, folder):.1f} s")
        root = Folder.at(folder).child("run")
        ray.init(num_cpus=max(WORKERS), include_dashboard=False, log_to_driver=False)
        print("workers | plain loop | through Ray | ratio | Ray's own")
        for workers in WORKERS:
            plain, driven, own = compared(config, root, workers)
            row = (f"{plain:.2f} s", f"{driven:.2f} s", f"{driven / plain:.3f}", f"{own:.2f} s")
            print(" | ".join((str(workers), *row)))
        ray.shutdown()


if __name__ == "__main__":
    main()
