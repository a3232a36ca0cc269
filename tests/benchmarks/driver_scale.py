"""What the driver spends on each part of a data set, with a thousand workers.

    python tests/benchmarks/driver_scale.py
    python tests/benchmarks/driver_scale.py --units 20000 --workers 1000

Drives the driver's own code: plan, manifest, queue, messages, event log, the loop over the workers
and `status`. Workers and Ray are simulated: a call has ended as soon as it is made. Each row is
measured with all units and with a tenth of them, in a process of its own, and the ratio of the
times per unit is printed: 1 where the cost is linear. Prints CPU time per unit, CPU time in all and
peak memory. A loop that takes more than 20 s is cut off; its figures are of the units it got to.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
from simulated_ray import LocalReader, SimulatedExecutor

from dfshield.config import config_from, dump_config
from dfshield.distributed.workers.message_queue import Message
from dfshield.distributed.workers.work_queue import WorkQueue
from dfshield.runs import Engine, SilentMonitor
from dfshield.runs.context import RunContext
from dfshield.runs.driver.parts_found import commit_fields
from dfshield.runs.driver.synthesize import _make
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import SilentObserver
from dfshield.runs.watching.status import run_status
from dfshield.runs.work.shard_summaries import ShardSummaries
from dfshield.runs.work.synthesis import PartSummary
from dfshield.storage import (
    Commit,
    Manifest,
    Part,
    SurrogateDataset,
    format_of,
    plan_parts,
    read_manifest,
    write_manifest,
)
from dfshield.storage.columns import FORMAT_1

LONGEST_S = 20.0
PARTS_PER_SHARD, PART_SIZE = 16, 1000
MADE = PartSummary(
    commit=Commit(checksum="c" * 64, num_bytes=12_345_678),
    seconds=61.234,
    labels=np.arange(PART_SIZE) % 10,
    agreeing=PART_SIZE - 7,
    losses={"loss": 1.234567, "loss_ce": 0.1234567, "loss_bn": 0.7654321, "loss_tv": 0.0123456},
)
ENGINE = Engine(device="cpu", threads=1, torch="2.13.0")


class Spent:
    """CPU seconds of each row, and over how many units."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[float, int]] = {}

    @contextmanager
    def on(self, name: str, units: int) -> Iterator[None]:
        start = time.process_time()
        yield
        self.rows[name] = time.process_time() - start, units

    def on_each(self, name: str, work: Iterable[object]) -> None:
        """Go through an iterable whose items are units, at most for `LONGEST_S`."""
        start, units = time.process_time(), 0
        for _ in work:
            units += 1
            if time.process_time() - start > LONGEST_S:
                break
        self.rows[name] = time.process_time() - start, units


def settings(folder: str, units: int) -> dict:
    return {
        "name": "run",
        "teacher": {
            "source": "dfshield:resnet8",
            "weights": "weights.pt",
            "input_shape": [1, 8, 8],
            "num_classes": 10,
        },
        "synthesis": {"num_images": units * PART_SIZE, "num_holdout": 0, "batch_size": PART_SIZE},
        "storage": {
            "path": folder,
            "part_size": PART_SIZE,
            "shard_size": PARTS_PER_SHARD * PART_SIZE,
        },
    }


def planned(units: int) -> tuple[Part, ...]:
    return plan_parts(
        (),
        split="data",
        num_images=units * PART_SIZE,
        batch_size=PART_SIZE,
        part_size=PART_SIZE,
        shard_size=PARTS_PER_SHARD * PART_SIZE,
    )


def manifest_of(parts: tuple[Part, ...]) -> Manifest:
    return Manifest(
        format_version=format_of(FORMAT_1),
        identity={"format": "synthesis", "seed": 0},
        teacher_fingerprint="t" * 64,
        image_shape=(1, 8, 8),
        image_dtype="uint8",
        num_classes=10,
        class_names=tuple(map(str, range(10))),
        seed=0,
        batch_size=PART_SIZE,
        part_size=PART_SIZE,
        shard_size=PARTS_PER_SHARD * PART_SIZE,
        engine=ENGINE.to_json(),
        parts=parts,
    )


def handed_out(parts: tuple[Part, ...], workers: int) -> Iterator[Part]:
    """Give out every unit as the loop over the workers does, by turns."""
    groups = [parts[i : i + PARTS_PER_SHARD] for i in range(0, len(parts), PARTS_PER_SHARD)]
    queue = WorkQueue(groups, max_retries=3)
    names = [f"worker-{n}" for n in range(workers)]
    at_work: dict[str, Part] = {}
    while queue.unfinished:
        for name in names:
            if name in at_work:
                queue.done(at_work.pop(name))
            unit = queue.take(name)
            if unit is not None and queue.unfinished:
                at_work[name] = unit
                yield unit


def delivered(units: int, workers: int) -> Iterator[int]:
    """Let workers send their progress, three messages a unit, and pass it on after every round."""
    reader, monitor = LocalReader(), SilentMonitor()
    for unit in range(units):
        name = f"worker-{unit % workers}"
        for _ in range(3):
            reader.messages.put(name, [Message(name, "advance", (PART_SIZE / 3,))])
        if unit % workers == workers - 1:
            reader.deliver(monitor)
        reader.confirm_progress(name)
        yield unit


def events_of(manifest: Manifest, workers: int, log: EventLog) -> Iterator[Part]:
    """Write what a driver writes of parts, all but the last of every worker done."""
    parts = manifest.parts
    log.emit("synthesis_started", seed=0, images=0, total=len(parts) * PART_SIZE)
    for n in range(workers):
        place = {"node": "a" * 56, "host": f"node-{n // 8}", "pid": 1000 + n, "gpus": ["H200"]}
        log.emit("worker_started", worker=f"worker-{n}", **place)
    started = [(part, f"worker-{n % workers}") for n, part in enumerate(parts)]
    for n, (part, worker) in enumerate(started):
        log.emit("unit_started", worker=worker, unit=part.path)
        if n < workers:
            continue
        before, worker = started[n - workers]
        log.emit("unit_done", worker=worker, unit=before.path)
        log.emit(
            "part_committed",
            **commit_fields(manifest, before, MADE.commit, MADE.agreeing),
            seconds=MADE.seconds,
            **MADE.losses,
            worker=worker,
        )
        yield before


def measured(units: int, workers: int) -> tuple[dict[str, tuple[float, int]], float]:
    """Return the CPU seconds and units of each row, and the peak memory in MiB above the start."""
    spent = Spent()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        config = config_from(settings(folder, units))
        layout = RunLayout.of(config)
        root, data = layout.root, layout.synthetic(0)
        with spent.on("plan", units):
            parts = planned(units)
        with spent.on("manifest: check and write", units):
            manifest = manifest_of(parts)
            write_manifest(data, manifest)
        with spent.on("manifest: read", units):
            read_manifest(data)
        spent.on_each("queue", handed_out(parts, workers))
        spent.on_each("messages", delivered(units, workers))

        executor = SimulatedExecutor(workers, MADE, LONGEST_S)
        log = EventLog(root.child("elsewhere"))
        context = RunContext(config, layout, executor, SilentObserver(), log)
        summaries = ShardSummaries(data, SurrogateDataset(data, manifest), agreeing={}, todo=parts)
        without_files = mock.patch.object(ShardSummaries, "_write")  # a picture needs images
        with spent.on("loop: queue, messages, event log", units), without_files:
            _make(context, data, manifest, list(parts), summaries)
        spent.rows["loop: queue, messages, event log"] = (
            spent.rows["loop: queue, messages, event log"][0],
            executor.done,
        )
        log.flush()

        root.write_bytes("config.yaml", dump_config(config).encode())
        log = EventLog(root)
        spent.on_each("event log", events_of(manifest, workers, log))
        log.flush()
        made = max(0, spent.rows["event log"][1] - 1)
        for part in islice(parts, made):
            file = Path(data.path, part.path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        with Lease(root), spent.on("status", units):
            state = run_status(str(root))
        (of_seed,) = state["seeds"]
        assert of_seed["synthesize"]["parts_done"] == made
        assert len(of_seed["synthesize"]["running"]) in (workers, workers + 1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return spent.rows, (after - before) / 1024


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--units", type=int, default=100_000)
    options.add_argument("--workers", type=int, default=1_000)
    asked = options.parse_args()
    found = []
    for units in (asked.units // 10, asked.units):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(measured, units, asked.workers).result())
    (few, little), (many, much) = found
    print(
        f"{asked.units:,} units, {asked.workers:,} workers; ratio: to {asked.units // 10:,} units"
    )
    print("| | CPU per unit | ratio | CPU in all |")
    print("|---|---|---|---|")
    for name, (seconds, units) in many.items():
        each, reference = seconds / units, few[name][0] / few[name][1]
        cut = "" if units > asked.units - asked.workers - 1 else f" (of {units:,} units)"
        print(f"| {name} | {each * 1e6:.1f} µs | {each / reference:.2f} | {seconds:.2f} s{cut} |")
    print(f"| peak memory | {much:.0f} MiB | {much / little / 10:.2f} | |")


if __name__ == "__main__":
    main()
