"""What a trial of a sweep came to: the file ``trial.json`` of its folder."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dfshield.errors import InputError
from dfshield.results import SOME_NOT_DATA_FREE
from dfshield.runs.watching.event_log import read_events
from dfshield.runs.work.history import kept_epoch, read_history
from dfshield.storage import Folder
from dfshield.unmeasured import UNMEASURED

TRIAL_FILE = "trial.json"
TRIALS = "trials"
FORMAT_VERSION: Literal[1] = 1
TRIAL_STARTED = "trial_started"

TrialState = Literal["running", "done", "stopped", "failed"]


class TrialRecord(BaseModel):
    """One trial.

    Attributes:
        name: of its folder.
        values: of the swept keys, by config path.
        seed: of the training.
        state: ``stopped``: early, by the scheduler; ``running``: also if its driver has died.
        reason: why it failed or was stopped.
        started: when it was begun for the first time (UTC, ISO 8601).
        seconds: of work, over all commands that had a part in it.
        epochs: how many the student was trained.
        holdout: the agreements on the synthetic hold-out of the student that is kept.
        test: accuracy on real test images by the attack's label.
        floor: what the best constant classifier reaches on them.
        collapsed: whether the student gives nearly all images one class.
        data_free: whether no real image is trained on; written down where that is not so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    values: dict[str, Any]
    seed: int
    state: TrialState
    reason: str = ""
    started: str
    seconds: float = 0.0
    epochs: int = 0
    holdout: dict[str, float] = {}
    test: dict[str, float] = {}
    floor: float | None = None
    collapsed: bool = False
    data_free: bool = True

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.state != "running"

    def write(self, root: Folder) -> None:
        """Write it into the trial's folder of a sweep."""
        text = self.model_dump_json(exclude={"data_free"} if self.data_free else None)
        trial_folder(root, self.name).write_bytes(TRIAL_FILE, text.encode())


def read_trial(root: Folder, name: str) -> TrialRecord | None:
    """Return what is recorded of a trial of a sweep, or None if it has not been begun.

    Raises:
        InputError: if its record is damaged.
    """
    folder = trial_folder(root, name)
    if not folder.exists(TRIAL_FILE):
        return None
    try:
        return TrialRecord.model_validate_json(folder.read_bytes(TRIAL_FILE))
    except ValidationError:
        raise InputError(
            f"{folder}/{TRIAL_FILE}: not the record of a trial; delete it to look at the trial anew"
        ) from None


def read_trials(root: Folder) -> list[TrialRecord]:
    """Return the trials of a sweep that were begun, in the order in which they were.

    Raises:
        InputError: if a record is damaged.
    """
    files = (name.split("/") for name in root.list(TRIALS))
    names = [parts[1] for parts in files if parts[2:] == [TRIAL_FILE]]
    records = [record for record in (read_trial(root, name) for name in names) if record]
    return sorted(records, key=lambda record: (record.started, record.name))


def remarks_on(records: Iterable[TrialRecord]) -> list[str]:
    """Return what has to be said of a sweep.

    That its students were measured on no real image, or that some were trained on real ones.
    """
    done = [record for record in records if record.state == "done"]
    said = [UNMEASURED] if done and not any(record.test for record in done) else []
    return said if all(record.data_free for record in done) else [*said, SOME_NOT_DATA_FREE]


def trial_folder(root: Folder, name: str) -> Folder:
    """Return the folder of a trial of a sweep."""
    return root.child(TRIALS, name)


def epochs_of(folder: Folder) -> list[dict[str, Any]]:
    """Return the hold-out metrics of every epoch that a trial has gone through, in order."""
    epochs = {e["epoch"]: e for e in read_events(folder) if e["event"] == "epoch"}
    return [epochs[epoch] for epoch in sorted(epochs)]


def kept_holdout(folder: Folder, *, best: bool) -> dict[str, Any]:
    """Return the hold-out metrics of a finished student; empty without a hold-out.

    Args:
        folder: of the student.
        best: whether the best epoch was kept, and not the last.
    """
    kept = kept_epoch(read_history(folder), best=best)
    return {} if kept is None else dict(kept["holdout"])


def worked_seconds(folder: Folder) -> float:
    """Return how long a trial has been worked on, without the time between commands."""
    total = 0.0
    last: datetime | None = None
    for event in read_events(folder):
        moment = datetime.fromisoformat(event["time"])
        if last is not None and event["event"] != TRIAL_STARTED:
            total += (moment - last).total_seconds()
        last = moment
    return total


def measured_so_far(folder: Folder) -> dict[str, Any]:
    """Return the fields of the record of a trial that was cut off after some epochs."""
    epochs = epochs_of(folder)
    last = epochs[-1] if epochs else {}
    return {
        "epochs": len(epochs),
        "seconds": worked_seconds(folder),
        "holdout": agreements(last),
        "collapsed": bool(last.get("collapsed", False)),
    }


def agreements(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what of hold-out metrics trials are compared by."""
    every = {key: value for key, value in metrics.items() if key.startswith("agreement")}
    return {key: float(value) for key, value in {**every, **metrics.get("scores", {})}.items()}


def standing_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what a trial is compared by after an epoch, from its hold-out metrics."""
    return standing(agreements(metrics), collapsed=bool(metrics.get("collapsed", False)))


def standing(figures: Mapping[str, float], *, collapsed: bool) -> dict[str, float]:
    """Return the figures by which trials are compared as they go on: 0 for a collapsed student."""
    return {key: 0.0 if collapsed else value for key, value in figures.items()}
