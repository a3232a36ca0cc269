"""How a synthesis goes, told from the event log and the manifest."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dfshield.runs.records import recorded_state
from dfshield.runs.stages.stage import Traces
from dfshield.runs.watching.event_digest import COMMITS, ENDS_OF_A_UNIT, Event, number, unit_of
from dfshield.storage import MANIFEST, Manifest, Part, SurrogateDataset


def synthesis_state(traces: Traces) -> dict[str, Any]:
    """Return how far the data set of a seed is: its parts and images, and `synthesis_progress`."""
    state = recorded_state(traces.folder)
    if not traces.folder.exists(MANIFEST):
        return state
    data = SurrogateDataset.open(traces.folder)
    parts, missing = data.manifest.parts, data.missing()
    if state.get("sink") == "object_store":
        missing = []  # nothing was to stay
    elif missing:  # a finished set that grows, or has lost a part
        state["state"] = "begun"
    images, left = (sum(part.num_images for part in group) for group in (parts, missing))
    return state | {
        "parts": len(parts),
        "parts_done": len(parts) - len(missing),
        "images": images,
        "images_done": images - left,
        **synthesis_progress(traces.events, data.manifest, missing, at_work=traces.at_work),
    }


def synthesis_progress(
    events: Sequence[Event], manifest: Manifest, missing: Sequence[Part], *, at_work: bool
) -> dict[str, Any]:
    """Return what is known of the parts that are not there, of the workers, and of the rest.

    Args:
        events: those of the run, in order.
        manifest: the plan.
        missing: its parts that are not there.
        at_work: whether a driver is alive; else nothing is running, whatever the log says.

    Returns:
        ``running`` and ``failed`` parts, ``workers`` with their rates (images per second of their
        own time), ``images_per_second`` of those at work together, ``eta_seconds`` (None if
        unknown), ``retries`` over the whole history of the data set, and how far the fit of its
        ``generator`` is (None if it has none).
    """
    missing_paths = {part.path for part in missing}
    sessions = _sessions(events, manifest.seed)
    retried = [e.get("unit") for s in sessions for e in s if e["event"] == "unit_retried"]
    paths = {part.path for part in manifest.parts} if retried else set()
    session = sessions[-1] if sessions else []
    running = _running(session, missing_paths) if at_work else {}
    workers = _workers(session, running)
    rate = sum(w["images_per_second"] or 0.0 for w in workers if w["state"] == "at work")
    remaining = sum(part.num_images for part in missing)
    return {
        "running": [{"part": part, **state} for part, state in sorted(running.items())],
        "failed": [
            {"part": e["unit"], "time": e["time"], "reason": e.get("reason", "")}
            for e in session
            if e["event"] == "unit_failed" and e.get("unit") in missing_paths
        ],
        "workers": workers,
        "images_per_second": round(rate, 6),
        "eta_seconds": round(remaining / rate, 1) if rate and remaining else None,
        "retries": sum(unit in paths for unit in retried),
        "generator": _generator(events, manifest),
    }


def _generator(events: Sequence[Event], manifest: Manifest) -> dict[str, Any] | None:
    """Return the steps of the fit, those done as far as the log tells, and the last losses."""
    mine = [event for event in events if event.get("seed") == manifest.seed]
    begun = [event for event in mine if event["event"] == "fit_started"]
    if not begun:
        return None
    steps = [event for event in mine if event["event"] == "fit_step"]
    last = steps[-1] if steps else {}
    total = int(number(begun[-1], "total"))
    return {
        "steps": total,
        "steps_done": total if manifest.generator else int(number(last, "step")),
        "losses": {key: value for key, value in last.items() if key.startswith("loss")},
    }


def _sessions(events: Sequence[Event], seed: int) -> list[list[Event]]:
    """Return what happened each time that the data set of a seed was worked on."""
    sessions: list[list[Event]] = []
    mine = False
    for event in events:
        if event["event"] == "synthesis_started":
            mine = event.get("seed") == seed
            if mine:
                sessions.append([])
        if mine:
            sessions[-1].append(event)
        if event["event"] == "synthesis_done":
            mine = False
    return sessions


def _running(session: Sequence[Event], missing: set[str]) -> dict[str, dict[str, Any]]:
    running: dict[str, dict[str, Any]] = {}
    for event in session:
        unit = unit_of(event)
        if event["event"] == "unit_started" and unit in missing:
            running[unit] = {"worker": event.get("worker"), "since": event["time"]}
        elif event["event"] in ENDS_OF_A_UNIT:
            running.pop(unit, None)
    return running


def _workers(session: Sequence[Event], running: dict[str, Any]) -> list[dict[str, Any]]:
    images: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    places: dict[str, Event] = {}
    gone = set()
    for event in session:
        worker = event.get("worker")
        if not isinstance(worker, str):
            continue
        places.setdefault(worker, {})
        if event["event"] == "worker_started":
            places[worker] = event
        elif event["event"] == "worker_lost":
            gone.add(worker)
        elif event["event"] in COMMITS:
            images[worker] += int(number(event, "images"))
            seconds[worker] += number(event, "seconds")
    at_work = {state["worker"]: part for part, state in running.items()}
    return [
        {
            "worker": name,
            "host": place.get("host"),
            "gpus": place.get("gpus", []),
            "state": "lost" if name in gone else "at work" if name in at_work else "idle",
            "part": at_work.get(name),
            "images": images[name],
            "images_per_second": round(images[name] / seconds[name], 6) if seconds[name] else None,
        }
        for name, place in places.items()
    ]
