"""First light, stage ``digits``: the whole pipeline, killed in two stages, resumed, verified."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from commands import called
from stage import Stage

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "digits.yaml"


def digits(stage: Stage) -> None:
    """Run it whole, and with two kills; both must leave the same images and the same student."""
    hide = {"CUDA_VISIBLE_DEVICES": ""} if stage.device == "cpu" else {}
    os.environ.update(hide)
    whole, killed = (stage.folder / name for name in ("whole", "killed"))
    seconds = {}

    def timed(name: str, *command: str, until: Callable[[], bool] | None = None):
        begun = time.monotonic()
        code = called(list(command), stage.folder / f"{name}.log", until)
        seconds[name] = round(time.monotonic() - begun, 1)
        stage.note(command_seconds=seconds)
        stage.expect(f"{name} ends well", code == (0 if until is None else -signal.SIGKILL))
        if code not in (0, -signal.SIGKILL):
            log = (stage.folder / f"{name}.log").read_text()
            stage.note(**{f"{name} said": log[-1500:]})

    def commands(name: str, folder: Path) -> list[str]:
        changes = (*stage.sizes.run, "cluster.address=none", f"storage.path={folder}")
        return [name, str(CONFIG), *changes]

    run = commands("run", killed)
    after_part = told(killed / "digits", "part_committed")
    after_update = told(killed / "digits", "checkpoint")
    timed("killed as it synthesizes", *run, until=after_part)
    timed("killed as it trains", *run, until=after_update)
    timed("resumed", *run)
    timed("verified", "verify", str(killed / "digits"), "--resynthesize", "20")
    shutil.copytree(killed / "digits" / "teacher", whole / "digits" / "teacher")
    for name in ("synthesize", "train"):
        timed(f"whole: {name}", *commands(name, whole))
    images, students = zip(*(digests(folder / "digits") for folder in (whole, killed)), strict=True)
    stage.expect("images of a killed run", images[0] and images[0] == images[1])
    stage.expect("the student of a killed run", students[0] and students[0] == students[1])
    stage.note(accuracies=accuracies(killed / "digits"))


def told(run: Path, event: str) -> Callable[[], bool]:
    """Return whether the log of a run tells an event."""
    log = run / "events.jsonl"
    return lambda: log.exists() and f'"event": "{event}"' in log.read_text()


def digests(run: Path) -> tuple[str, str]:
    """Return what tells the images and the student of a run apart from others."""
    parts = sorted((run / "synthetic" / "data").rglob("*.parquet"))
    student = run / "student" / "model.safetensors"
    return _digest(parts), _digest([student] if student.exists() else [])


def _digest(files: list[Path]) -> str:
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.read_bytes())
    return sha.hexdigest() if files else ""


def accuracies(run: Path) -> dict[str, float]:
    """Return what the evaluation found, by model and attack."""
    found = {}
    for file in sorted((run / "evaluation").rglob("*.json")):
        result = json.loads(file.read_text())
        if isinstance(result, dict) and "accuracy" in result:
            found[f"{file.parent.name}/{file.stem}"] = result["accuracy"]
    return found
