"""Identities: what a stage's result depends on, and refusing to mix two of them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from dfshield.config import current_key
from dfshield.errors import InputError
from dfshield.runs.execution.engine import Engine
from dfshield.storage import Folder

STAGE_FILE = "stage.json"
FORMAT_VERSION = 1


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one ``key: old → new`` per key in which two identities differ.

    Keys that an earlier release has recorded under another name count under their name now.
    """
    left, right = (
        {current_key(key): value for key, value in flatten(identity)} for identity in (old, new)
    )
    return [
        f"{key}: {left.get(key, 'unset')} → {right.get(key, 'unset')}"
        for key in sorted(left.keys() | right.keys())
        if not _same(left.get(key), right.get(key))
    ]


def _same(old: Any, new: Any) -> bool:
    """Compare two values; a number such as 1e-2 was kept as text by an earlier dfshield."""
    if isinstance(old, str) and isinstance(new, float):
        with suppress(ValueError):
            return float(old) == new
    return bool(old == new)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested mappings, each under its keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def read_record(folder: Folder) -> dict[str, Any] | None:
    """Return what a stage wrote about itself into its folder, or None.

    Raises:
        InputError: if the record is broken or of a newer format version.
    """
    if not folder.exists(STAGE_FILE):
        return None
    where = f"{folder}/{STAGE_FILE}"
    try:
        record: Any = folder.read_json(STAGE_FILE)
    except ValueError:
        raise InputError(f"{where}: not valid JSON; delete the folder to start it afresh") from None
    version = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        raise InputError(
            f"{where}: format version {version}, but this dfshield reads {FORMAT_VERSION}; "
            "use the dfshield that wrote it, or another name="
        )
    if not isinstance(record, dict) or version != FORMAT_VERSION or not _is_record(record):
        raise InputError(f"{where}: not a stage record; delete the folder to start it afresh")
    return dict(record)


def _is_record(record: Mapping[str, Any]) -> bool:
    return (
        isinstance(record.get("identity"), dict)
        and isinstance(record.get("engine", {}), dict)
        and isinstance(record.get("done"), bool)
        and isinstance(record.get("summary", None if record["done"] else {}), dict)
    )


def claim(folder: Folder, identity: Mapping[str, Any], *, key: str = "name=") -> dict[str, Any]:
    """Bind a stage's folder to an identity, or find that it is bound to the same one already.

    Returns:
        The stage's record; its ``done`` says whether the stage has finished.

    Raises:
        InputError: if the folder was begun with another identity, naming the keys that differ.
    """
    record = read_record(folder)
    if record is None:
        record = {"format_version": FORMAT_VERSION, "identity": dict(identity), "done": False}
        folder.write_json(STAGE_FILE, record)
        return record
    changed = differences(record["identity"], identity)
    if changed:
        raise InputError(
            f"{folder} was made with other settings ({'; '.join(changed)}); "
            f"go on under another {key}, or delete that folder to start it afresh"
        )
    return record


def finish(folder: Folder, record: Mapping[str, Any], **summary: Any) -> None:
    """Mark a stage as done, with a summary for people and later stages."""
    folder.write_json(STAGE_FILE, {**record, "done": True, "summary": summary})


def resumed_engine(
    here: Engine, bound: Mapping[str, Any], *, where: Folder, replan: bool
) -> Engine:
    """Return the engine that begun work is bound to, or this machine's if it is replanned.

    Threads are a setting that follows the work; all else was planned for this machine.

    Raises:
        InputError: if this machine cannot go on under the bound engine.
    """
    if replan:
        return here
    engine = Engine.from_json(bound)
    changed = differences(engine.to_json(), {**here.to_json(), "threads": engine.threads})
    if changed:
        raise InputError(
            f"{where} was begun under another engine ({'; '.join(changed)}), which gives "
            "other bytes; resume where it was begun, or go on here with --replan"
        )
    return engine
