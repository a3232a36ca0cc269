"""How far a sweep is, told from its files alone."""

from collections import Counter
from statistics import fmean
from typing import Any

from dfshield.config import Config, config_from, parse_yaml
from dfshield.runs.lease import driver_state
from dfshield.runs.names import PAGE, REPORT
from dfshield.runs.sweep.begun import trials_begun
from dfshield.runs.sweep.metrics import BestSoFar
from dfshield.runs.sweep.plan import listed_trials, training_seeds
from dfshield.runs.sweep.record import remarks_on
from dfshield.runs.watching.event_log import read_events
from dfshield.storage import Folder

SWEEP_FILE = "sweep.yaml"


def is_sweep(location: str) -> bool:
    """Return whether a folder is that of a sweep."""
    return Folder.at(location).exists(SWEEP_FILE)


def sweep_config(root: Folder) -> Config:
    """Return the configuration of a sweep.

    Raises:
        InputError: if it is damaged.
    """
    where = f"{root}/{SWEEP_FILE}"
    text = root.read_bytes(SWEEP_FILE).decode(errors="replace")
    return config_from(parse_yaml(text, where=where), where=where)


def num_trials(config: Config) -> int:
    """Return how many trials a sweep has when it is done."""
    listed = listed_trials(config)
    return len(listed) or (config.sweep.max_trials or 0) * len(training_seeds(config))


def sweep_status(location: str) -> dict[str, Any]:
    """Return the state of a sweep as a JSON value: trials by state, the best so far, time left.

    Raises:
        InputError: if the folder is not that of a sweep, or damaged.
    """
    root = Folder.at(location)
    config = sweep_config(root)
    records = trials_begun(config, root)
    driver = driver_state(root)
    at_work = driver["state"] == "at work"
    states = Counter(
        "interrupted" if record.state == "running" and not at_work else record.state
        for record in records
    )
    total = max(num_trials(config), len(records))
    states["waiting"] = total - len(records)
    ahead = BestSoFar(config, records)
    best = ahead.best()
    left = states["waiting"] + states["running"] + states["interrupted"]
    seconds = [record.seconds for record in records if record.ended and record.state != "failed"]
    eta = None
    if at_work and seconds and states["running"]:
        eta = fmean(seconds) * left / states["running"]
    events = read_events(root)
    return {
        "sweep": str(root),
        "driver": driver,
        "total": total,
        "trials": dict(states),
        "axes": {key: list(axis.ends) for key, axis in config.sweep.axes.items()},
        "select_on": config.sweep.select_on,
        "metric": ahead.metric,
        "best": None if best is None else {"values": dict(best[0]), "score": best[1]},
        "eta_seconds": eta,
        "failed": {r.name: r.reason for r in records if r.state == "failed"},
        "last_event": events[-1] if events else None,
        "report": root.exists(f"{REPORT}/{PAGE}"),
        "remarks": remarks_on(records),
    }
