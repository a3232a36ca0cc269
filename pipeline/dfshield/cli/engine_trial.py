"""What an engine trial has found, as a table."""

from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from dfshield.cli.execution import load_settings
from dfshield.cli.machine_output import print_json
from dfshield.engine.trial import format_iteration
from dfshield.errors import InputError

_STYLES = {"chosen": "bold green", "passed": "green", "failed": "red"}


def trial_command(config: str | None, overrides: list[str], *, as_json: bool) -> None:
    """Hold the engine trials of a run on this machine, and print what they find.

    Raises:
        InputError: if no run is named, or it has no teacher yet.
    """
    from dfshield.runs import try_engines

    if config is None:
        raise InputError("--trial: name the YAML file of a run")
    trials = try_engines(load_settings(config, overrides), say=say_aside)
    if as_json:
        print_json({stage: trial and trial.to_json() for stage, trial in trials.items()})
        return
    for stage, trial in trials.items():
        if trial is None:
            typer.echo(f"{stage}: there is nothing to try")
        else:
            print_trial(stage, trial.to_json())


def say_aside(line: str) -> None:
    """Print a line for people on standard error."""
    typer.echo(line, err=True)


def print_trial(stage: str, trial: Mapping[str, Any]) -> None:
    """Print verdict and figures of a stage's trial.

    Args:
        stage: which.
        trial: what `Trial.to_json` returned.
    """
    table = Table(
        *("Way", "Verdict", "To begin", "An iteration", "Faster"),
        Column("Reason", overflow="fold"),
        title=f"{stage}: engine trial",
        title_justify="left",
    )
    taken = "" if any(r["verdict"] == "chosen" for r in trial["rungs"]) else "chosen"
    table.add_row("plain", taken, "", format_iteration(trial["plain_seconds"]), "", "")
    for rung in trial["rungs"]:
        verdict, timed = rung["verdict"], rung["seconds"] > 0
        table.add_row(
            rung["name"],
            f"[{_STYLES[verdict]}]{verdict}[/]",
            format_iteration(rung["seconds_to_begin"]),
            format_iteration(rung["seconds"]) if timed else "",
            f"{rung['faster']:.2f} ×" if timed else "",
            escape(rung["reason"]),
        )
    Console(highlight=False).print(table)
