"""Where a sweep of a small run lies, and the records of its trials."""

import json

from tiny_run import run_of, write_config

TAU, LAMBDA1 = "training.gradrefine.tau", "training.objective.lambda1"
SHORT = {TAU: {"grid": [0, 0.5]}}
AXES = {TAU: {"grid": [0, 0.5]}, LAMBDA1: {"grid": [0, 1]}}


def sweep_config(folder, **changes):
    return write_config(folder, **{"sweep__parameters": AXES, **changes})


def sweep_of(config, name="sweep"):
    return run_of(config) / "sweeps" / name


def trial_records(config, name="sweep"):
    files = sorted((sweep_of(config, name) / "trials").glob("*/trial.json"))
    return [json.loads(file.read_text()) for file in files]


def records(config, name="sweep"):
    """The trials by their seed and values."""
    return {(r["seed"], *r["values"].values()): r for r in trial_records(config, name)}
