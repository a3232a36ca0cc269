"""How far a run is, told from its files alone."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from dfshield.errors import InputError
from dfshield.runs.layout import kept_settings, seed_folders
from dfshield.runs.lease import driver_state
from dfshield.runs.names import CONFIG_FILE, EVALUATION, INDEX
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.stages.stage import Line, Stage, Traces
from dfshield.runs.watching.event_log import digested_events
from dfshield.storage import Folder
from dfshield.unmeasured import unmeasured

DEATHS = ("worker_lost", "driver_lost", "interrupted")


def run_status(location: str) -> dict[str, Any]:
    """Return the state of a run folder as a JSON value: every stage, by its name.

    Those that are done for each seed stand in ``seeds``, one mapping a seed.

    ``remarks`` say of a reported run what its students were not measured on, and of any run which
    of its operations give other bytes each time.

    Raises:
        InputError: if the folder is not that of a run.
    """
    root = Folder.at(location)
    if not root.exists(CONFIG_FILE):
        raise InputError(f"{root}: not a run folder (it has no {CONFIG_FILE})")
    events, driver = digested_events(root), driver_state(root)
    at_work, settings = driver["state"] == "at work", kept_settings(root)

    def state_of(stage: Stage, folder: Folder, seed: str | None) -> Any:
        return stage.status(Traces(folder.child(stage.folder), seed, events, at_work, settings))

    seeds = [
        {
            "seed": seed,
            **{s.name: state_of(s, folder, seed) for s in STAGES.values() if s.per_seed},
            "real_images_measured": folder.child(EVALUATION).exists(INDEX),
        }
        for seed, folder in seed_folders(root)
    ]
    once = {s.name: state_of(s, root, None) for s in STAGES.values() if not s.per_seed}
    missing = [of_seed["seed"] for of_seed in seeds if not of_seed["real_images_measured"]]
    remark = unmeasured(missing, len(seeds)) if once["report"] else ""
    return {
        "run": str(root),
        "driver": driver,
        "deaths": [_death(event) for event in events if event["event"] in DEATHS],
        "last_event": events[-1] if events else None,
        **once,
        "seeds": seeds,
        "remarks": [*([remark] if remark else []), *_not_reproducible(events)],
    }


def _not_reproducible(events: list[dict[str, Any]]) -> Iterator[str]:
    found = [e.get("operation") for e in events if e["event"] == "not_reproducible"]
    for operation in dict.fromkeys(found):
        yield (
            f"not byte-reproducible: {operation} has no deterministic implementation on the GPUs "
            "that it ran on"
        )


def status_lines(state: Mapping[str, Any]) -> Iterator[tuple[str, Line]]:
    """Give the lines of the status table of a run, each with the seed that it is about, or ""."""
    for per_seed, group in groupby(STAGES.values(), key=lambda stage: stage.per_seed):
        stages = list(group)
        for of_seed in state["seeds"] if per_seed else [{**state, "seed": None}]:
            seed = "" if of_seed["seed"] is None else str(of_seed["seed"])
            for stage in stages:
                yield from ((seed, line) for line in stage.status_lines(of_seed[stage.name]))


def _death(event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] == "worker_lost":
        who, reason = event.get("worker"), event.get("reason")
    elif event["event"] == "driver_lost":
        who = f"driver (process {event.get('process')} on {event.get('host')})"
        reason = f"no sign of life after {event.get('heartbeat')}"
    else:
        who, reason = "driver", "stopped by a signal"
    return {"time": event["time"], "who": who, "unit": event.get("unit"), "reason": reason}
