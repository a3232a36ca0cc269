"""How a training goes, told from the event log and the student's folder."""

from typing import Any

from dfshield.runs.identity import filled
from dfshield.runs.records import read_record, recorded_state
from dfshield.runs.stages.stage import Traces
from dfshield.runs.watching.event_digest import is_update
from dfshield.runs.work.history import kept_epoch, read_history
from dfshield.storage import Folder


def training_state(traces: Traces) -> dict[str, Any]:
    """Return how far a student is: its updates, and the hold-out's figures once it is done."""
    state = recorded_state(traces.folder)
    seed = traces.seed
    mine = [e for e in traces.events if seed is None or str(e.get("seed")) == seed]
    totals = [e.get("total") for e in mine if e["event"] == "training_started"]
    updates = [e for e in mine if is_update(e)]
    if totals and isinstance(totals[-1], int):
        state["updates"] = totals[-1]
    if updates:
        state["last_update"] = {k: v for k, v in updates[-1].items() if k != "event"}
    if state["state"] == "done":
        state["holdout"] = _holdout(traces.folder)
    return state


def _holdout(student: Folder) -> dict[str, Any] | None:
    """Return how the kept student does on the synthetic hold-out; None without one."""
    record = read_record(student)
    training = filled(record["identity"]).get("training", {}) if record else {}
    kept = kept_epoch(read_history(student), best=training.get("select") == "holdout")
    return None if kept is None else {"epoch": kept["epoch"], **kept["holdout"]}
