"""The real job in what remains of a quarter of an hour: CIFAR-10's ResNet-20, hardened on one GPU.

    python tests/gpu/cifar10.py OUT [--minutes 12] [--data FOLDER] [--earlier OUT] [KEY=VALUE ...]

As many of the paper's 60,000 images are made as leave time for its 200 epochs, by a plan that
holds the engine trial of the synthesis and measures a few iterations of the training. Teacher and
student are attacked on 1,000 test images, all at once. The training goes the plain way, since a
trial of its own would cost more than it saves here: where first light has found replayed students
equal, add ``training.engine.compile=graph``.

At the end OUT holds ``cifar10.json`` with the figures, the log, and the run in pieces of 15 MiB: a
later call goes on from the OUT of an ``--earlier`` one. The data folder is that of DFSHIELD_DATA.
Images are stored as uint8, so that 20,000 of them fit into the pieces; what does not is made again.

`--rehearse` goes through it in half a minute on a CPU.
"""

import argparse
import importlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "pipeline"))
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

# What commands import, once for all of them.
_PRELOADED = (
    "torch._dynamo",
    "dfshield.runs.public",
    "dfshield.cli.tables",
    "dfshield.report.page",
)
CONFIG = ROOT / "examples" / "cifar10-resnet20.yaml"
NAME = "cifar10-resnet20"
PIECE, MOST = 15 << 20, 60 << 20
"""Bytes of a piece, and of all of them."""


@dataclass(frozen=True)
class Job:
    """How large the job may be.

    Attributes:
        images: at most.
        step: the number of images is a multiple of it.
        epochs: at most.
        seconds: for the evaluation and the page.
        grace: seconds before the end at which the run is stopped, to be packed.
        settings: of the configuration.
    """

    images: int
    step: int
    epochs: int
    seconds: float
    grace: float
    settings: tuple[str, ...]


FULL = Job(
    images=60_000,
    step=4000,  # K = 20 mini-batches of 200
    epochs=200,
    seconds=150.0,
    grace=15.0,
    settings=(
        *("evaluation.num_images=1000", "evaluation.slice_size=1000"),
        *("training.engine.compile=false", "storage.image_dtype=uint8"),
    ),
)
REHEARSAL = Job(
    images=20,
    step=10,
    epochs=1,
    seconds=1.0,
    grace=1.0,
    settings=(
        *("synthesis.batch_size=10", "synthesis.method.iterations=2", "synthesis.num_holdout=10"),
        *("training.batch_size=10", "training.inner.num_steps=2"),
        "training.gradrefine.num_batches=1",
        *(
            "evaluation.num_images=4",
            "evaluation.models=[student]",
            "evaluation.attacks=[{name: pgd, num_steps: 2}]",
        ),
        *("storage.image_dtype=uint8", "storage.part_size=10", "storage.shard_size=20"),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--earlier", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on the CPU")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    if options.data is not None:
        os.environ["DFSHIELD_DATA"] = str(options.data.resolve())
    if options.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    options.out.mkdir(parents=True, exist_ok=True)
    for name in _PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="cifar10-") as work:
        if options.earlier is not None:
            unpack(options.earlier, Path(work))
        job = REHEARSAL if options.rehearse else FULL
        figures = worked(job, Path(work), options.out, options.overrides, deadline)
        pack(Path(work), options.out)
    file = options.out / "cifar10.json"
    file.write_text(json.dumps(figures, indent=1))
    print(file.read_text())
    return int(figures["exit_code"] not in (0, 130))


def worked(job: Job, work: Path, out: Path, overrides: list[str], deadline: float) -> dict:
    """Plan the job, or take up an earlier plan; work until it is done or the time is over."""
    from commands import called

    settings = [*job.settings, *overrides, "cluster.address=none", f"storage.path={work}"]
    plan_file = work / "plan.json"
    if not plan_file.exists():
        whole = (f"synthesis.num_images={job.images}", f"training.epochs={job.epochs}")
        plan = {"seconds": deadline - time.monotonic() - job.seconds}
        for stage in ("synthesize", "train"):
            log = work / "plan.log"
            code = called([stage, str(CONFIG), *settings, *whole, "--plan", "--json"], log)
            if code != 0:
                return {"exit_code": code, "said": log.read_text()[-2000:]}
            text = log.read_text()
            plan[stage] = json.loads(text[text.index("{") : text.rindex("}") + 1])
        plan["seconds"] = min(plan["seconds"], deadline - time.monotonic() - job.seconds)
        plan |= sized(job, plan)
        plan_file.write_text(json.dumps(plan))
    plan = json.loads(plan_file.read_text())
    settings += [
        f"synthesis.num_images={plan['images']}",
        f"training.epochs={plan['epochs']}",
        *engine_settings(plan["synthesize"]["engine"]),
    ]
    log = out / "cifar10.log"
    code = called(
        ["run", str(CONFIG), *settings],
        log,
        until=lambda: time.monotonic() > deadline - job.grace,
        by=signal.SIGTERM,
    )
    return {
        "exit_code": code,
        "done": code == 0,
        "plan": plan,
        "said": log.read_text()[-2000:],
        **found(work / NAME),
    }


def engine_settings(engine: dict) -> list[str]:
    """Return the settings that give the synthesis the engine of its plan, without another trial."""
    compiled = "graph" if engine["graphed"] else str(engine["compiled"]).lower()
    found = {key: engine[key] for key in ("precision", "batches_per_pass")} | {"compile": compiled}
    return [f"synthesis.engine.{key}={value}" for key, value in found.items()]


def sized(job: Job, plan: dict) -> dict[str, int]:
    """Return how many images and epochs fit into the seconds of a plan: all epochs, if any fit."""
    making, training = plan["synthesize"], plan["train"]
    begun = making["seconds_to_begin"] + training["seconds_to_begin"]
    per_image = (making["seconds"] - making["seconds_to_begin"]) / job.images
    per_epoch = (training["seconds"] - training["seconds_to_begin"]) / job.images / job.epochs
    seconds = max(0.0, plan["seconds"] - begun)
    fit = seconds / (per_image + job.epochs * per_epoch)
    images = min(job.images, max(job.step, int(fit) // job.step * job.step))
    left = seconds - images * per_image
    epochs = min(job.epochs, max(1, int(left / (images * per_epoch))))
    return {"images": images, "epochs": epochs}


def found(run: Path) -> dict[str, object]:
    """Return how often, first and last every event was, and the accuracies."""
    from dfshield.runs.watching.event_log import read_events
    from dfshield.storage import Folder

    times: dict[str, list[str]] = {}
    for event in read_events(Folder.at(run)) if run.exists() else []:
        times.setdefault(event["event"], []).append(event["time"])
    accuracies = {}
    for file in sorted((run / "evaluation").rglob("*.json")):
        result = json.loads(file.read_text())
        if isinstance(result, dict) and "accuracy" in result:
            accuracies[file.stem] = result["accuracy"]
    return {
        "events": {name: (len(of), of[0], of[-1]) for name, of in times.items()},
        "accuracies": accuracies,
    }


def pack(work: Path, out: Path) -> None:
    """Write the run in pieces; images that are too many are left out."""
    files = [path for path in sorted(work.rglob("*")) if path.is_file()]
    images = [path for path in files if path.suffix == ".parquet"]
    chosen = [path for path in files if path not in images]
    size = sum(path.stat().st_size for path in chosen)
    for path in images:
        size += path.stat().st_size + 1024
        if size < MOST:
            chosen.append(path)
    packed = work / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        for path in chosen:
            archive.add(path, arcname=path.relative_to(work))
    for piece in out.glob("run.tar.*"):
        piece.unlink()
    with packed.open("rb") as stream:
        for number, piece in enumerate(iter(lambda: stream.read(PIECE), b"")):
            (out / f"run.tar.{number:02}").write_bytes(piece)


def unpack(folder: Path, work: Path) -> None:
    """Put the run of an earlier call back."""
    pieces = [piece.read_bytes() for piece in sorted(folder.glob("run.tar.*"))]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        archive.extractall(work, filter="data")


if __name__ == "__main__":
    sys.exit(main())
