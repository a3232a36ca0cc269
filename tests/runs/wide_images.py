"""A training whose images outweigh all else: `wide_images.py FOLDER` does it in groups.

In every process the memory of its own may grow by `ROOM`, a fraction of what the images take. What
the workers find of themselves is put into `FOLDER/found-SIZE-RANK.json`.
"""

import json
import resource
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from dfshield.classifiers import build
from dfshield.config import Config
from dfshield.runs import Engine, GroupWorker, SilentMonitor
from dfshield.runs.inputs.classifier_folder import save_classifier
from dfshield.runs.work.training import StudentJob
from dfshield.storage import (
    Folder,
    Manifest,
    PartArrays,
    SurrogateDataset,
    plan_parts,
    write_manifest,
    write_part,
)
from dfshield.training import TorchWorkerGroup, WorkerGroup

SHAPE, CLASSES = (3, 64, 64), 4
NUM_IMAGES, HELD_OUT, PART = 4096, 16, 64
IMAGES_BYTES = 4 * 3 * 64 * 64 * NUM_IMAGES
ROOM = IMAGES_BYTES // 3
SIZES = (1, 2)
ENGINE = Engine(device="cpu", threads=1, torch=str(torch.__version__))


def network() -> nn.Module:
    """Return the network of teacher and student, which hardly needs memory."""
    return nn.Sequential(nn.AvgPool2d(16), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, CLASSES))


def make_inputs(folder: Path) -> None:
    """Write a teacher and a surrogate data set of random images."""
    torch.manual_seed(0)
    teacher = build("python:wide_images:network", input_shape=SHAPE, num_classes=CLASSES)
    save_classifier(teacher, Folder.at(folder / "teacher"))
    sizes = {"batch_size": PART, "part_size": PART, "shard_size": NUM_IMAGES}
    manifest = Manifest(
        identity={},
        teacher_fingerprint=teacher.fingerprint(),
        image_shape=SHAPE,
        image_dtype="float32",
        num_classes=CLASSES,
        class_names=tuple("abcd"),
        seed=0,
        columns={},
        format_version=2,
        engine=ENGINE.to_json(),
        parts=(
            *plan_parts((), split="data", num_images=NUM_IMAGES, **sizes),
            *plan_parts((), split="holdout", num_images=HELD_OUT, **sizes),
        ),
        **sizes,
    )
    data = Folder.at(folder / "data")
    write_manifest(data, manifest)
    for part in manifest.parts:
        size = part.num_images
        draw = np.random.default_rng([part.split == "data", part.index])
        arrays = PartArrays(
            images=draw.random((size, *SHAPE), np.float32),
            labels=draw.integers(0, CLASSES, size),
            teacher_logits=draw.normal(size=(size, CLASSES)).astype(np.float32),
            batch=np.full(size, part.first_batch),
            seed=np.zeros(size, np.int64),
            columns={},
        )
        write_part(data, manifest, part, arrays)


def train(folder: Path, name: str, group: WorkerGroup, monitor: SilentMonitor) -> None:
    """Train a student into a folder of this name, as one worker of a group."""
    config = Config.model_validate(
        {
            "name": name,
            "teacher": {
                "source": "python:wide_images:network",
                "input_shape": SHAPE,
                "num_classes": CLASSES,
            },
            "threat": {"norm": "linf", "eps": 0.1},
            "training": {
                "epochs": 1,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "gradrefine": {"num_batches": 8},
                "inner": {"num_steps": 1},
                "checkpoint_every": 1000,
            },
        }
    )
    job = StudentJob(
        config=config,
        seed=0,
        teacher=str(folder / "teacher"),
        data=str(folder / "data"),
        refs={},
        num_images=NUM_IMAGES - 8,  # ends within a part, a mini-batch and an update
        student=str(folder / name),
        engine=ENGINE,
    )
    job.run(
        GroupWorker(
            device=torch.device("cpu"),
            monitor=monitor,
            group=group,
            get=lambda ref: ref,
            report=lambda _: None,
            stop_requested=lambda: False,
        )
    )


def own_bytes(name: str) -> int:
    """Return a figure of /proc/self/status: VmData or RssAnon."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


class Watching(SilentMonitor):
    """Keeps how much memory of its own this process has come to, before and in the training."""

    def __init__(self):
        self.before, self.most, self.unshared = own_bytes("RssAnon"), 0, 0

    def emit(self, event, **fields):
        if event == "update":
            self.most = max(self.most, own_bytes("RssAnon"))
            self.unshared = psutil.Process().memory_full_info().uss


def work(rank: int, size: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"{folder.as_uri()}/rendezvous-{size}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    read, read_part = Counter(), SurrogateDataset.read

    def counted(self, part):
        read[part.path] += 1
        return read_part(self, part)

    SurrogateDataset.read = counted
    dataset = SurrogateDataset.open(folder / "data")
    dataset.load("holdout")  # starts the threads of the libraries, whose stacks take memory
    resource.setrlimit(resource.RLIMIT_DATA, (own_bytes("VmData") + ROOM, -1))
    try:
        dataset.load()
        fits = True
    except (MemoryError, RuntimeError):
        fits = False
    read.clear()
    watching = Watching()
    train(folder, f"student-{size}", TorchWorkerGroup(), watching)
    found = {
        "fits": fits,
        "grown": watching.most - watching.before,
        "unshared": watching.unshared,
        "read": dict(read),
    }
    (folder / f"found-{size}-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.optim.SGD(network().parameters(), lr=0.1)  # imports much when it is first made
    for size in SIZES:
        # Forked, so that torch is imported once for all of them.
        torch.multiprocessing.start_processes(
            work, args=(size, Path(sys.argv[1])), nprocs=size, start_method="fork"
        )
