"""How far a run is, told from its files alone."""

from collections.abc import Iterator
from typing import Any

from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult
from dfshield.runs.identity import read_record
from dfshield.runs.layout import CONFIG_FILE, seed_folders
from dfshield.runs.lease import driver_state
from dfshield.runs.stages.evaluate import INDEX
from dfshield.runs.watching.event_log import read_events
from dfshield.runs.watching.synthesis_status import synthesis_progress
from dfshield.runs.work.history import kept_epoch, read_history
from dfshield.storage import MANIFEST, Folder, SurrogateDataset
from dfshield.unmeasured import unmeasured

DEATHS = ("worker_lost", "driver_lost", "interrupted")


def run_status(location: str) -> dict[str, Any]:
    """Return the state of a run folder as a JSON value: teacher, then each seed's stages.

    ``remarks`` say of a reported run what its students were not measured on.

    Raises:
        InputError: if the folder is not that of a run.
    """
    root = Folder.at(location)
    if not root.exists(CONFIG_FILE):
        raise InputError(f"{root}: not a run folder (it has no {CONFIG_FILE})")
    events = read_events(root)
    driver = driver_state(root)
    at_work = driver["state"] == "at work"
    seeds = [
        {
            "seed": seed,
            "synthesize": _synthesis(folder.child("synthetic"), events, at_work=at_work),
            "train": _training(folder.child("student"), seed, events),
            "evaluate": list(_results(folder.child("evaluation"))),
            "real_images_measured": folder.child("evaluation").exists(INDEX),
        }
        for seed, folder in seed_folders(root)
    ]
    report = root.exists("report/index.html")
    missing = [of_seed["seed"] for of_seed in seeds if not of_seed["real_images_measured"]]
    remark = unmeasured(missing, len(seeds)) if report else ""
    return {
        "run": str(root),
        "driver": driver,
        "deaths": [_death(event) for event in events if event["event"] in DEATHS],
        "last_event": events[-1] if events else None,
        "teacher": _stage(root.child("teacher")),
        "seeds": seeds,
        "report": report,
        "remarks": [remark] if remark else [],
    }


def _death(event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] == "worker_lost":
        who, reason = event.get("worker"), event.get("reason")
    elif event["event"] == "driver_lost":
        who = f"driver (process {event.get('process')} on {event.get('host')})"
        reason = f"no sign of life after {event.get('heartbeat')}"
    else:
        who, reason = "driver", "stopped by a signal"
    return {"time": event["time"], "who": who, "unit": event.get("unit"), "reason": reason}


def _stage(folder: Folder) -> dict[str, Any]:
    record = read_record(folder)
    state = "pending" if record is None else "done" if record["done"] else "begun"
    return {"state": state, **(record or {}).get("summary", {})}


def _synthesis(folder: Folder, events: list[dict[str, Any]], *, at_work: bool) -> dict[str, Any]:
    state = _stage(folder)
    if folder.exists(MANIFEST):
        data = SurrogateDataset.open(folder)
        parts, missing = data.manifest.parts, data.missing()
        if state.get("sink") == "object_store":
            missing = []  # nothing was to stay
        elif missing:  # a finished set that grows, or has lost a part
            state["state"] = "begun"
        state |= {
            "parts": len(parts),
            "parts_done": len(parts) - len(missing),
            "images": sum(part.num_images for part in parts),
            "images_done": sum(p.num_images for p in parts) - sum(p.num_images for p in missing),
            **synthesis_progress(events, data.manifest, missing, at_work=at_work),
        }
    return state


def _training(folder: Folder, seed: str | None, events: list[dict[str, Any]]) -> dict[str, Any]:
    state = _stage(folder)
    mine = [e for e in events if seed is None or str(e.get("seed")) == seed]
    totals = [e.get("total") for e in mine if e["event"] == "training_started"]
    updates = [e for e in mine if e["event"] == "update" and _is_update(e)]
    if totals and isinstance(totals[-1], int):
        state["updates"] = totals[-1]
    if updates:
        state["last_update"] = {k: v for k, v in updates[-1].items() if k != "event"}
    if state["state"] == "done":
        state["holdout"] = _holdout(folder)
    return state


def _holdout(student: Folder) -> dict[str, Any] | None:
    """Return how the kept student does on the synthetic hold-out; None without one."""
    record = read_record(student)
    select = record["identity"].get("training", {}).get("select") if record else None
    kept = kept_epoch(read_history(student), best=select == "holdout")
    return None if kept is None else {"epoch": kept["epoch"], **kept["holdout"]}


def _is_update(event: dict[str, Any]) -> bool:
    return isinstance(event.get("epoch"), int) and isinstance(event.get("loss"), int | float)


def _results(folder: Folder) -> Iterator[dict[str, Any]]:
    for name in folder.list():
        if "/" not in name and name.endswith(".json"):
            text = folder.read_bytes(name).decode("utf-8", errors="replace")
            result = EvaluationResult.from_json(text, source=f"{folder}/{name}")
            yield result.model_dump(include={"model", "label", "accuracy", "num_images"})
