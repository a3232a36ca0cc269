"""What can be known to be wrong before a run begins: this machine, the run folder, templates."""

import math
import platform
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch

from dfshield import __version__
from dfshield.config import Config
from dfshield.errors import DfshieldError, InputError, counted
from dfshield.runs.doctor.gpus import CudaReport, look_at_gpus
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.layout import RunLayout
from dfshield.storage import Folder

LITTLE_BYTES = 5 * 1024**3
"""Free space below which a disk is worth a warning: Ray alone writes gigabytes."""
HERE = "this machine"

_PLACEHOLDER = re.compile(r"CHANGE_ME_[A-Z0-9_]+")
_COMMENT = re.compile(r"(^|\s)#(?!SBATCH\s).*")


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        where: on which machine, or in which file.
        verdict: whether a run would do well; one that ``failed`` would stop it.
        told: what was found and, unless it is well, what to do.
    """

    name: str
    where: str
    verdict: Verdict
    told: str


def check(name: str, where: str, told: str, *, problem: str = "", warning: str = "") -> Check:
    """Return a check that has failed if there is a problem, and else found what is told."""
    if problem:
        return Check(name, where, Verdict.FAILED, problem)
    if warning:
        return Check(name, where, Verdict.WARNING, warning)
    return Check(name, where, Verdict.OK, told)


def examine_machine() -> list[Check]:
    """Look at the versions of this machine and at the GPUs that torch sees."""
    gpus = torch.cuda.device_count()
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return [
        check("python", HERE, platform.python_version()),
        check("dfshield", HERE, __version__),
        check("torch", HERE, f"{torch.__version__}, {built}, sees {counted(gpus, 'GPU')}"),
        *_gpus(look_at_gpus()),
    ]


def _gpus(cuda: CudaReport) -> Iterator[Check]:
    """Look at NVIDIA's GPUs, where the machine has any."""
    if cuda.driver or cuda.gpus:
        bad = cuda.unusable or (cuda.format() if cuda.usable < len(cuda.gpus) else "")
        yield check("GPUs", HERE, cuda.format(), warning=bad)


def existing_folder(config: Config) -> Folder:
    """Return the folder of a run or, on a local disk, the nearest one above it that exists.

    What is looked at leaves no trace.

    Raises:
        InputError: if the location cannot be opened.
    """
    root = RunLayout.of(config).root
    if root.local is None:
        return root
    return Folder.at(next(p for p in (root.local, *root.local.parents) if p.is_dir()))


def examine_run(config: Config, folder: Folder) -> list[Check]:
    """Look at the place of a run, the space it has, where the test images are, and the attacks.

    Args:
        config: the run's.
        folder: what `existing_folder` returned.
    """
    return [*_storage(config, folder), _test_images(config), _attacks(config)]


def _storage(config: Config, folder: Folder) -> Iterator[Check]:
    name = f".dfshield-{uuid.uuid4().hex}"
    try:
        folder.write_bytes(name, b"")
        folder.delete(name)
    except DfshieldError as error:
        yield check("storage", HERE, "", problem=str(error))
        return
    yield check("storage", HERE, f"{folder} can be written")
    if folder.local is not None:
        free = shutil.disk_usage(folder.local).free
        yield disk(HERE, free, needed=_data_set_bytes(config))


def _data_set_bytes(config: Config) -> int:
    """Return how large the surrogate data of all seeds are at most, or 0 if that is not known."""
    shape = config.teacher.input_shape
    if shape is None or config.training.data is not None or not config.surrogate:
        return 0
    images = (config.synthesis.num_images + config.synthesis.num_holdout) * len(config.all_seeds)
    return images * math.prod(shape) * np.dtype(config.storage.image_dtype).itemsize


def disk(where: str, free: int, *, needed: int = 0) -> Check:
    """Return the check of a disk with so many free bytes, of which so many are needed."""
    told = f"{_gib(free)} free"
    if needed:
        told += f", the surrogate data take {_gib(needed)} at most"
    return check(
        "free disk",
        where,
        told,
        problem=f"{told}: free some space or choose another storage.path" if free < needed else "",
        warning=f"{told}: that is little" if free - needed < LITTLE_BYTES else "",
    )


def _gib(size: int) -> str:
    return f"{size / 1024**3:,.1f} GiB"


def _test_images(config: Config) -> Check:
    name = "test images"
    if config.evaluation.data is None:
        told = "none (evaluation.data): the report will say what synthetic images tell"
        return check(name, HERE, "", warning=told)
    try:
        data = require_evaluation_data(config)
    except InputError as error:
        return check(name, HERE, "", warning=f"{error} (`dfshield run` stops without)")
    return check(name, HERE, data.name if data.path is None else f"{data.name}: {data.path}")


def _attacks(config: Config) -> Check:
    try:
        told = ", ".join(attack.label for attack in attacks_of(config))
    except InputError as error:
        return check("attacks", HERE, "", problem=str(error))
    return check("attacks", HERE, told or "none")


def examine_template(path: Path) -> list[Check]:
    """Look for placeholders that were left in a launch template; comments may name them.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    left = dict(_placeholders(lines))
    told = ", ".join(f"{name} (line {number})" for name, number in left.items())
    return [
        check(
            "placeholders",
            str(path),
            "none left",
            problem=f"{told}: write your own value there" if left else "",
        )
    ]


def _placeholders(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    seen = set()
    for number, line in enumerate(lines, start=1):
        for name in _PLACEHOLDER.findall(_COMMENT.sub("", line)):
            if name not in seen:
                seen.add(name)
                yield name, number
