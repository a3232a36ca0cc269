"""The history that a finished student keeps of its training, and which epoch the student is of."""

from collections.abc import Iterable, Mapping
from typing import Any

from dfshield.errors import InputError
from dfshield.results import AGREEMENT_PGD
from dfshield.runs.names import HISTORY
from dfshield.storage import Folder


def read_history(student: Folder) -> list[dict[str, Any]]:
    """Return the records of a finished student's updates and epochs, in their order.

    Raises:
        InputError: if there are none, or they are damaged.
    """
    history = student.read_json(HISTORY)
    if not isinstance(history, list):
        raise InputError(f"{student}/{HISTORY}: not a list of records")
    return [record for record in history if isinstance(record, dict)]


KEPT = "kept"
"""Key of the record, the last one, that says which epoch was kept where the best one was."""


def figure_of(holdout: Mapping[str, Any], name: str) -> float | None:
    """Return a figure of an epoch on the hold-out by its name; None if it was not taken then."""
    value = {**holdout, **holdout.get("scores", {})}.get(name)
    return None if value is None else float(value)


def best_epoch(history: Iterable[Mapping[str, Any]], measure: str) -> int | None:
    """Return the number of the best epoch by a measure, the first of several; None without any.

    One at which the student had collapsed is behind all others.
    """
    best: tuple[bool, float] | None = None
    number = None
    for record in _epochs(history):
        figure = figure_of(record["holdout"], measure)
        if figure is None:
            continue
        standing = (not record["holdout"]["collapsed"], figure)
        if best is None or standing > best:
            best, number = standing, record["epoch"]
    return number


def _epochs(history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in history if isinstance(record.get("holdout"), Mapping)]


def kept_epoch(history: Iterable[Mapping[str, Any]], *, best: bool) -> Mapping[str, Any] | None:
    """Return the record of the epoch that the kept student is of; None without a hold-out.

    Histories of earlier releases do not say which it is: the best one is then the best under PGD.

    Args:
        history: of the student.
        best: whether the best epoch on the hold-out was kept, and not the last.

    Returns:
        Its number (``epoch``, from 0) and its metrics (``holdout``).
    """
    records = list(history)
    epochs = _epochs(records)
    if not epochs:
        return None
    said = next((record[KEPT] for record in records if KEPT in record), None)
    if said is not None:
        return next(record for record in epochs if record["epoch"] == said)
    if best:
        return max(epochs, key=lambda record: float(record["holdout"][AGREEMENT_PGD]))
    return epochs[-1]
