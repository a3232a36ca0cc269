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


def kept_epoch(history: Iterable[Mapping[str, Any]], *, best: bool) -> Mapping[str, Any] | None:
    """Return the record of the epoch that the kept student is of; None without a hold-out.

    Args:
        history: of the student.
        best: whether the best epoch on the hold-out was kept, and not the last.

    Returns:
        Its number (``epoch``, from 0) and its metrics (``holdout``).
    """
    epochs = [record for record in history if isinstance(record.get("holdout"), Mapping)]
    if not epochs:
        return None
    if best:
        return max(epochs, key=lambda record: float(record["holdout"][AGREEMENT_PGD]))
    return epochs[-1]
