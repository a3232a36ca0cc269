"""The command ``reproduce``: tables of the paper, run here and put beside the printed ones."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dfshield.cli.execution import find_factories_here, working
from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson, Overrides, Replan, RetryFailed
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.report.reproduced import ReproducedTable
    from dfshield.runs.reproduction import Reproduction
    from dfshield.storage import Folder

TABLES = "tables"
ALL = "all"

TableId = Annotated[
    str | None,
    typer.Argument(
        help="A table of the paper, such as table-7, or all; those that can be run are listed "
        "without.",
        metavar="[ID]",
    ),
]
ScaleName = Annotated[
    str,
    typer.Option(
        help="smoke: 8x8 digits, in minutes; desk: CIFAR-10 with a ResNet-20, in hours; paper: "
        "as printed, for a cluster."
    ),
]
Only = Annotated[
    str, typer.Option(help="Cells that have all of these: a data set, a model, a method.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only tell what would be run, and what is there.")
]


def reproduce(
    table: TableId = None,
    overrides: Overrides = None,
    scale: ScaleName = "smoke",
    seeds: Annotated[str, typer.Option(help="Of the trainings, as in 0,1,2.")] = "0",
    only: Only = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    replan: Replan = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Run a table of the paper and put the figures beside the printed ones.

    Every cell is a student. Tables of one scale share teachers, surrogate images and students: what
    one has made is not made again for another. Continues where it stopped.

    Example: dfshield reproduce table-7 --scale smoke --seeds 0,1,2
    """
    if table is None:
        _print_list(as_json=as_json)
        return
    find_factories_here()
    from dfshield import experiments
    from dfshield.report.reproduced import json_value
    from dfshield.runs.reproduction import missing_files, reproduction

    keys = [part for part in only.split(",") if part]
    if table == ALL and keys:
        raise InputError(f"--only: goes with one table, not with {ALL}")
    every = [
        reproduction(
            experiments.experiment(name),
            experiments.scale(scale),
            seeds=_numbers(seeds),
            only=keys,
            overrides=overrides or (),
        )
        for name in (experiments.EXPERIMENT_IDS if table == ALL else [table])
    ]
    missing = list(dict.fromkeys(line for found in every for line in missing_files(found)))
    if dry_run:
        _print_plan(every, missing, as_json=as_json)
        return
    if missing:
        raise InputError("; ".join(missing))
    told = []
    for found in every:
        result, folder = _run(found, replan=replan, retry_failed=retry_failed)
        told.append({"folder": folder.uri, **json_value(result)})
        if not as_json:
            _print_table(result)
            typer.echo(f"Written: {folder}/index.html, table.md, table.csv")
    if as_json:
        print_json(told if table == ALL else told[0])


def _numbers(seeds: str) -> list[int]:
    try:
        found = [int(part) for part in seeds.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0:
        raise InputError(f"--seeds: {seeds!r}: give whole numbers from 0, as in 0,1,2")
    return list(dict.fromkeys(found))


def _run(
    found: "Reproduction", *, replan: bool, retry_failed: bool
) -> "tuple[ReproducedTable, Folder]":
    from dfshield.cli.sweeping import sweep_by
    from dfshield.experiments import EXPERIMENT_IDS
    from dfshield.paper import paper_table
    from dfshield.runs.reproduction import met_further, reproduced_table

    with working(lambda: found.config) as (settings, executor, observer):
        from dfshield.report import reproduced

        sweep = sweep_by(
            executor, settings, observer=observer, replan=replan, retry_failed=retry_failed
        )
        sweep.run()
        command = shlex.join(["dfshield", *sys.argv[1:]])
        further = met_further(found, sweep)
        result = reproduced_table(found, sweep.root, command=command, further=further)
        tables = sweep.run_layout.root.child(TABLES)
        folder = tables.child(found.experiment.id)
        folder.write_bytes("index.html", reproduced.html_page(result).encode())
        folder.write_bytes("table.md", reproduced.markdown_page(result).encode())
        folder.write_bytes("table.csv", reproduced.csv_page(result))
        folder.write_json("table.json", reproduced.json_value(result))
        done = [t for t in EXPERIMENT_IDS if tables.exists(f"{t}/table.json")]
        page = reproduced.index_page(found.scale, [paper_table(name) for name in done])
        tables.write_bytes("index.html", page.encode())
    return result, folder


def _print_list(*, as_json: bool) -> None:
    from dfshield.experiments import EXPERIMENT_IDS, SCALES, experiment, scale

    scales = [scale(name) for name in SCALES]
    every = [experiment(name) for name in EXPERIMENT_IDS]
    students = [{s.name: len(list(one.cells(s))) for s in scales} for one in every]
    if as_json:
        pairs = zip(every, students, strict=True)
        print_json([{"id": e.id, "title": e.table.title, "students": n} for e, n in pairs])
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("Table", "", *SCALES, box=SIMPLE, caption="Students of one seed, by scale.")
    for one, numbers in zip(every, students, strict=True):
        table.add_row(one.id, one.table.title, *map(str, numbers.values()))
    Console(highlight=False).print(table)


def _print_plan(every: "list[Reproduction]", missing: list[str], *, as_json: bool) -> None:
    from dfshield.runs.reproduction import planned

    plan = [cell for found in every for cell in planned(found)]
    if as_json:
        print_json({"cells": plan, "missing": missing})
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table("Table", "Cell", "Settings", "Done", box=SIMPLE)
    for each in plan:
        table.add_row(
            each["table"], each["cell"], each["settings"], f"{each['done']} of {each['seeds']}"
        )
    console = Console(highlight=False)
    console.print(table)
    for line in missing:
        console.print(f"Missing: {line}", soft_wrap=True)


def _print_table(result: "ReproducedTable") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"Table {result.table.number}, scale {result.scale}: {result.table.title}"
    shown = Table(
        title=escape(title),
        caption="In brackets: the paper's figure.",
        box=SIMPLE,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for name in result.names:
        shown.add_column(escape(name), overflow="fold")
    for metric in result.metrics:
        shown.add_column(escape(result.table.metrics[metric].label), justify="right")
    shown.add_column("", overflow="fold")
    for row in result.rows:
        figures = (figure.words for figure in row.figures)
        numbers = [f"{ours} ({theirs})" for ours, theirs, _ in figures]
        shown.add_row(*map(escape, [*result.labels(row), *numbers, result.said(row)]))
    console = Console(highlight=False)
    console.print(shown)
    for note in result.notes:
        console.print(escape(note), soft_wrap=True)
