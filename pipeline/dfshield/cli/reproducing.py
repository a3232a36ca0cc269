"""The command ``reproduce``: tables and figures of the paper, run here."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dfshield.cli.execution import find_factories_here, working
from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson, Overrides, Replan, RetryFailed
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.experiments import Experiment, Scale
    from dfshield.report.reproduced import ReproducedTable
    from dfshield.report.reproduced_figure import ReproducedFigure
    from dfshield.runs.reproduction import Reproduction
    from dfshield.runs.sweep import Sweep
    from dfshield.storage import Folder

ALL = "all"

ExperimentId = Annotated[
    str | None,
    typer.Argument(
        help="A table or a figure of the paper, such as table-7 or fig-4, or all; those that can "
        "be run are listed without.",
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
    bool,
    typer.Option(
        "--dry-run",
        help="Only tell what would be run, what of it is there, and what the rest costs here, by a "
        "few iterations.",
    ),
]
Listed = Annotated[
    bool,
    typer.Option(
        "--list",
        help="Only tell what each is, what it costs here from nothing, by a few iterations, and "
        "which files it wants.",
    ),
]


def reproduce(
    experiment_id: ExperimentId = None,
    overrides: Overrides = None,
    scale: ScaleName = "smoke",
    seeds: Annotated[str, typer.Option(help="Of the trainings, as in 0,1,2.")] = "0",
    only: Only = "",
    dry_run: DryRun = False,
    listed: Listed = False,
    as_json: AsJson = False,
    replan: Replan = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Run a table of the paper and put its numbers beside the printed ones, or draw a figure.

    Cells are students, or sets of images. All of one scale share teachers, surrogate images and
    students: what one has made is not made again for another. Continues where it stopped.

    Example: dfshield reproduce table-7 --scale smoke --seeds 0,1,2
    """
    from dfshield.cli.reproduction_plan import print_costs, print_list, print_plan

    if experiment_id is None and not listed:
        print_list(as_json=as_json)
        return
    find_factories_here()
    from dfshield import experiments
    from dfshield.runs.reproduction import missing_files, reproduction

    keys = [part for part in only.split(",") if part]
    if experiment_id == ALL and keys:
        raise InputError(f"--only: goes with one table or figure, not with {ALL}")
    size = experiments.scale(scale)
    every = [
        reproduction(one, size, seeds=_numbers(seeds), only=keys, overrides=overrides or ())
        for one in _chosen(experiment_id or ALL, size)
    ]
    if listed:
        print_costs(every, as_json=as_json)
        return
    if dry_run:
        print_plan(every, as_json=as_json)
        return
    missing = missing_files(every)
    if missing:
        raise InputError("; ".join(missing))
    told = []
    for found in every:
        result, folder = _run(found, replan=replan, retry_failed=retry_failed)
        told.append({"folder": folder.uri, **result.to_json()})
        if not as_json:
            _print_result(result)
            typer.echo(f"Written: {folder}/{', '.join(result.files)}")
    if as_json:
        print_json(told if experiment_id == ALL else told[0])


def _chosen(experiment_id: str, scale: "Scale") -> "list[Experiment]":
    """Return the experiment, or all that a scale has anything for."""
    from dfshield.experiments import EXPERIMENT_IDS, experiment

    if experiment_id != ALL:
        return [experiment(experiment_id)]
    every = [experiment(name) for name in EXPERIMENT_IDS]
    return [one for one in every if one.size(scale)]


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
) -> "tuple[ReproducedTable | ReproducedFigure, Folder]":
    from dfshield.cli.sweeping import sweep_by
    from dfshield.runs.reproduction import reproduce

    with working(lambda: found.config) as (settings, executor, observer):

        def sweep() -> "Sweep":
            return sweep_by(
                executor, settings, observer=observer, replan=replan, retry_failed=retry_failed
            )

        command = shlex.join(["dfshield", *sys.argv[1:]])
        return reproduce(found, sweep, observer=observer, command=command)


def _print_result(result: "ReproducedTable | ReproducedFigure") -> None:
    from dfshield.report.reproduced import ReproducedTable

    if isinstance(result, ReproducedTable):
        _print_table(result)
        return
    typer.echo(f"{result.heading}, scale {result.scale}: {result.title}")
    for line in (*result.findings, *result.notes):
        typer.echo(line)


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
