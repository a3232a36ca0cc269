"""Which parts of a data set are there: by the run's log of commits, else by reading them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dfshield.runs.context import RunContext
from dfshield.runs.records import Record, damage
from dfshield.runs.watching.event_log import read_events
from dfshield.storage import (
    Commit,
    Folder,
    Manifest,
    Part,
    PartError,
    fits_commit,
    num_agreeing,
    read_commit,
)

VOUCHING = ("part_committed", "part_checked")
"""The events that vouch for a part: it was written, or it was read whole and found valid."""
THREADS = 16


@dataclass(frozen=True)
class PartsFound:
    """What there is of a data set.

    Attributes:
        todo: the planned parts that are not there or are broken.
        agreeing: how many images of a part the teacher assigns to their label, by its path, where
            that is known.
    """

    todo: list[Part]
    agreeing: dict[str, int]


def find_parts(
    context: RunContext, folder: Folder, record: Record, manifest: Manifest
) -> PartsFound:
    """Return which planned parts are not there or are broken, naming the broken ones.

    Of a set that is done, names and sizes are looked at. Of another one a part is valid when its
    size, its footer and the checksum therein are those of the run's log; a part that is not in it,
    or does not fit it, is read whole. So damage within a part of the log does not show here: it is
    found by `dfshield verify`, and by the training, which checks what it reads.
    """
    sizes = {**folder.sizes("data"), **folder.sizes("holdout")}
    missing = {part.path for part in manifest.parts if part.path not in sizes}
    log: dict[str, tuple[Commit, int]] = {}
    if record["done"]:
        problems = damage(folder, record, (p.path for p in manifest.parts if p.path in sizes))
        if problems or missing:
            log = _logged(context, manifest)
    else:
        log = _logged(context, manifest)
        present = [part for part in manifest.parts if part.path in sizes]
        problems = _problems(context, folder, manifest, present, log, sizes)
    for path, problem in problems.items():
        context.log.emit("part_broken", path=path, problem=problem)
        context.observer.say(f"{path}: {problem}; it is made again")
    todo = [part for part in manifest.parts if part.path in missing or part.path in problems]
    return PartsFound(todo, {path: agreeing for path, (_, agreeing) in log.items()})


def commit_fields(manifest: Manifest, part: Part, commit: Commit, agreeing: int) -> dict[str, Any]:
    """Return the fields of an event that vouches for a part."""
    size = {} if commit.num_bytes is None else {"bytes": commit.num_bytes}
    return {
        "seed": manifest.seed,
        "path": part.path,
        "images": part.num_images,
        "checksum": commit.checksum,
        **size,
        "agreeing": agreeing,
    }


def _logged(context: RunContext, manifest: Manifest) -> dict[str, tuple[Commit, int]]:
    """Return commit and agreement of the parts of a seed, by path, as the log last tells them.

    Logs of before hold neither sizes nor agreement; what they tell is passed over.
    """
    logged = {}
    for event in read_events(context.layout.root):
        if event["event"] not in VOUCHING or event.get("seed") != manifest.seed:
            continue
        path, size, agreeing = event.get("path"), event.get("bytes"), event.get("agreeing")
        if isinstance(path, str) and isinstance(size, int) and isinstance(agreeing, int):
            logged[path] = Commit(str(event.get("checksum")), size), agreeing
    return logged


def _problems(
    context: RunContext,
    folder: Folder,
    manifest: Manifest,
    present: list[Part],
    log: dict[str, tuple[Commit, int]],
    sizes: Mapping[str, int],
) -> dict[str, str]:
    """Return what is wrong with each part that is broken; add what is read whole to the log."""
    problems = {}
    trusted = _trusted(folder, manifest, present, log, sizes)
    unknown = [part for part in present if part not in trusted]
    if unknown and len(unknown) < len(present):
        context.observer.say(f"{folder}: {len(unknown)} of {len(present)} parts are read whole")
    for part in unknown:
        try:
            arrays, commit = read_commit(folder, manifest, part)
        except PartError as error:
            problems[part.path] = error.reason
            continue
        agreeing = num_agreeing(arrays.labels, arrays.teacher_logits)
        log[part.path] = commit, agreeing
        context.log.emit("part_checked", **commit_fields(manifest, part, commit, agreeing))
    return problems


def _trusted(
    folder: Folder,
    manifest: Manifest,
    present: list[Part],
    log: Mapping[str, tuple[Commit, int]],
    sizes: Mapping[str, int],
) -> set[Part]:
    """Return the parts whose size, footer and checksum are those of the log."""
    logged = [
        (part, log[part.path][0])
        for part in present
        if part.path in log and log[part.path][0].num_bytes == sizes[part.path]
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        fits = pool.map(lambda entry: fits_commit(folder, manifest, *entry), logged)
        return {part for (part, _), fit in zip(logged, fits, strict=True) if fit}
