"""What ``reproduce`` would do: the lists of experiments, their runs, costs and files."""

from typing import TYPE_CHECKING, Any

from dfshield.cli.machine_output import print_json
from dfshield.cli.planning import format_seconds

if TYPE_CHECKING:
    from rich.console import Console

    from dfshield.runs.reproduction import Cost, Reproduction, WantedFile

_COUNTED = (
    "Time of one worker here, nothing compiled, from a few iterations; AutoAttack as if every "
    "image withstood it. Teachers that are trained are not counted."
)


def print_list(*, as_json: bool) -> None:
    """Print what can be run, and how many cells each has at every scale."""
    from dfshield.experiments import EXPERIMENT_IDS, NOT_RUN, SCALES, experiment, scale

    scales = [scale(name) for name in SCALES]
    every = [experiment(name) for name in EXPERIMENT_IDS]
    cells = [{s.name: one.size(s) for s in scales} for one in every]
    if as_json:
        pairs = zip(every, cells, strict=True)
        listed = [{"id": e.id, "title": e.about, "cells": n} for e, n in pairs]
        print_json({"experiments": listed, "not_run": NOT_RUN})
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    caption = "Cells by scale: students of one seed, or sets of images. --list tells their costs."
    table = Table("", "", *SCALES, box=SIMPLE, caption=caption)
    for one, numbers in zip(every, cells, strict=True):
        table.add_row(one.id, one.about, *(str(n) if n else "–" for n in numbers.values()))
    console = Console(highlight=False)
    console.print(table)
    _print_not_run(console)


def print_costs(every: "list[Reproduction]", *, as_json: bool) -> None:
    """Print what each table and figure costs from nothing, and the files that they want.

    Args:
        every: the tables and figures.
        as_json: as one JSON document.
    """
    from dfshield.runs.reproduction import Costs, Planner, total, wanted_files

    costs, files = Costs(), wanted_files(every)
    each = []
    for found in every:
        runs = list(Planner(costs, anew=True).runs(found))
        wanted = wanted_files([found])
        each.append((found, len(runs), total(runs), [one.name for one in wanted if one.missing]))
    if as_json:
        told = [
            {
                "id": found.experiment.id,
                "title": found.experiment.about,
                "runs": number,
                **_cost_json(cost),
                "missing": missing,
            }
            for found, number, cost, missing in each
        ]
        print_json({"experiments": told, "files": _files_json(files)})
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", box=SIMPLE, caption=_COUNTED, caption_justify="left")
    for heading in ("Runs", "Time"):
        table.add_column(heading, justify="right")
    table.add_column("Missing", overflow="fold")
    for found, number, cost, missing in each:
        row = (found.experiment.id, found.experiment.about, str(number), _words(cost))
        table.add_row(*row, ", ".join(missing))
    console = Console(highlight=False)
    console.print(table)
    if len(every) > 1:
        _print_not_run(console)
    _print_files(files)


def print_plan(every: "list[Reproduction]", *, as_json: bool) -> None:
    """Print the runs of tables and figures: what is there, and what the rest costs here.

    Args:
        every: the tables and figures; what one would do is not counted for another.
        as_json: as one JSON document.
    """
    from dfshield.runs.reproduction import Costs, Planner, missing_files, total, wanted_files

    planner = Planner(Costs())
    runs = [run for found in every for run in planner.runs(found)]
    left, files = total(runs), wanted_files(every)
    if as_json:
        told = {"runs": [run.to_json() for run in runs], **_cost_json(left)}
        print_json({**told, "missing": missing_files(every), "files": _files_json(files)})
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("", "Run", "Settings", "Done", box=SIMPLE, caption=_COUNTED)
    table.caption_justify = "left"
    table.add_column("Left", justify="right")
    for run in runs:
        done = f"{run.done} of {run.seeds}"
        table.add_row(run.id, run.cell, run.settings, done, _words(run.cost))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Left in all: {_words(left)}", soft_wrap=True)
    _print_files(files)


def _print_not_run(console: "Console") -> None:
    from dfshield.experiments import NOT_RUN

    for name, reason in NOT_RUN.items():
        console.print(f"Not run: {name}: {reason}.", soft_wrap=True)


def _words(cost: "Cost") -> str:
    """Return a cost in words; what is not counted stands behind a plus."""
    seconds = format_seconds(cost.seconds) if cost.seconds else "0"
    return " + ".join([seconds, *cost.uncounted])


def _cost_json(cost: "Cost") -> dict[str, Any]:
    return {"seconds": cost.seconds, "uncounted": list(cost.uncounted)}


def _files_json(files: "list[WantedFile]") -> list[dict[str, str]]:
    return [{"name": f.name, "missing": f.missing, "source": f.source} for f in files]


def _print_files(files: "list[WantedFile]") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for one in files:
        state = f"missing: {one.missing}" if one.missing else "there"
        source = f" ({one.source})" if one.source else ""
        console.print(f"{one.name}: {state}{source}", soft_wrap=True, markup=False)
