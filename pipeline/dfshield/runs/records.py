"""The record that a stage keeps in its folder: its identity, whether it is done, and its files."""

from collections.abc import Iterable, Mapping
from typing import Any

from dfshield.errors import InputError
from dfshield.runs.identity import differences
from dfshield.runs.names import STAGE_FILE
from dfshield.runs.stages.registry import STAGES
from dfshield.storage import Folder

FORMAT_VERSION = 1

Record = dict[str, Any]


def read_record(folder: Folder) -> Record | None:
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
        and isinstance(record.get("files", {}), dict)
        and isinstance(record.get("done"), bool)
        and isinstance(record.get("summary", None if record["done"] else {}), dict)
    )


def recorded_state(folder: Folder) -> dict[str, Any]:
    """Return how far a stage is: ``state`` (pending, begun, done) and its summary."""
    record = read_record(folder)
    state = "pending" if record is None else "done" if record["done"] else "begun"
    return {"state": state, **(record or {}).get("summary", {})}


def nothing_yet(folder: Folder, stage: str) -> InputError:
    """Return the error of a stage whose result is needed and not there."""
    result = STAGES.find(stage).result.lower()
    return InputError(f"{folder} holds no {result} yet: run `dfshield {stage}` first")


def claim(folder: Folder, identity: Mapping[str, Any], *, key: str = "name=") -> Record:
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


def finish(folder: Folder, record: Mapping[str, Any], *files: str, **summary: Any) -> None:
    """Mark a stage as done.

    Args:
        folder: of the stage.
        record: which it has had so far.
        files: whose sizes are recorded, so that `damage` can tell later what became of them.
        summary: for people and later stages.
    """
    done = {**record, "done": True, "summary": summary}
    if files:
        sizes = folder.sizes()
        done["files"] = {name: sizes[name] for name in files}
    folder.write_json(STAGE_FILE, done)


def damage(folder: Folder, record: Mapping[str, Any], files: Iterable[str]) -> dict[str, str]:
    """Return which files of a finished stage are not as they were, and why, from names and sizes.

    Nothing is opened: damage within a file of the right size does not show. Records of the first
    releases hold no sizes; there, only a file that is missing shows.
    """
    sizes, recorded = folder.sizes(), record.get("files", {})
    found = {}
    for name in files:
        if name not in sizes:
            found[name] = "is missing"
        elif sizes[name] != recorded.get(name, sizes[name]):
            found[name] = f"has {sizes[name]:,} bytes instead of {recorded[name]:,}"
    return found
