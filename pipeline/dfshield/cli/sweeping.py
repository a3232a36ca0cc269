"""The sweep command, and a sweep's results and state as tables."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import typer

from dfshield.cli.execution import at_work
from dfshield.cli.machine_output import print_json
from dfshield.results.data_free import REFERENCE_MARK

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.report.sweep import Matrix, SweepData
    from dfshield.runs import Executor, Observer
    from dfshield.runs.sweep import Sweep, TrialRecord

ROWS_SHOWN = 40


def sweep_command(
    config: str,
    overrides: Sequence[str] | None,
    *,
    as_json: bool,
    replan: bool,
    retry_failed: bool,
    matrix: bool = False,
) -> None:
    """Run the trials with progress on standard error; the results on standard output.

    Args:
        config: the YAML file.
        overrides: settings that override the file's.
        as_json: whether the results are one JSON document.
        replan: let interrupted work go on under another engine.
        retry_failed: do trials that failed again.
        matrix: the sweep must be a matrix, and its results are printed as one.
    """
    from dfshield.runs.sweep import remarks_on, require_matrix, sweep_data

    with at_work(config, overrides) as (settings, executor, observer):
        if matrix:
            require_matrix(settings)
        sweep = sweep_by(
            executor, settings, observer=observer, replan=replan, retry_failed=retry_failed
        )
        records = sweep.run()
        data = sweep_data(settings, sweep.trials, records, teacher={})
        found = _matrix_of(data) if matrix else None
    remarks = remarks_on(records)
    if as_json:
        trials = [record.model_dump(mode="json") for record in records]
        answer = {"sweep": sweep.root.uri, **_chosen(data), "trials": trials, "remarks": remarks}
        print_json(answer if found is None else {**answer, "matrix": found.to_json()})
    else:
        if found is None:
            _print_trials(settings, records)
            _print_recommended(data)
        else:
            _print_matrix(found)
        typer.echo(f"All of it: {sweep.root}/results.csv, {sweep.root}/report/index.html")
        for remark in remarks:
            typer.echo(remark)


def sweep_by(
    executor: "Executor",
    config: "Config",
    *,
    observer: "Observer",
    replan: bool,
    retry_failed: bool,
) -> "Sweep":
    """Return a sweep whose trials run under Ray Tune, or here where there is no Ray."""
    from dfshield.distributed import RayExecutor
    from dfshield.runs.sweep import InProcessRunner, Sweep

    return Sweep(
        config,
        executor=executor,
        runner=executor if isinstance(executor, RayExecutor) else InProcessRunner(executor),
        observer=observer,
        replan=replan,
        retry_failed=retry_failed,
    )


def _chosen(data: "SweepData") -> dict[str, Any]:
    from dfshield.report.sweep import answer_of

    return {"select_on": data.select_on, "metric": data.metric, **answer_of(data)}


def _matrix_of(data: "SweepData") -> "Matrix":
    from dfshield.report.sweep import matrix_of

    found = matrix_of(data)
    assert found is not None  # it has the two axes
    return found


def _print_matrix(matrix: "Matrix") -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from dfshield.report.sweep import legend

    axes = f"{matrix.rows.label} × {matrix.columns.label}"
    table = Table(
        title=f"{axes}, in percent: {matrix.measures[0].unit}",
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    for name in (matrix.rows.label, ""):
        table.add_column(name, overflow="fold")
    for name in matrix.columns.values:
        table.add_column(name, justify="right", overflow="fold")
    for row, measure, texts in matrix.lines:
        first, last = (measure is matrix.measures[place] for place in (0, -1))
        table.add_row(row if first else "", measure.title, *texts, end_section=last)
    console = Console(highlight=False)
    console.print(table)
    for meaning in legend(matrix.marks):
        console.print(meaning, soft_wrap=True)


def _print_trials(config: "Config", records: "Sequence[TrialRecord]") -> None:
    """Print the trials, those with the best of the metric that selects first."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from dfshield.runs.sweep import metric_of, scores_of

    metric = metric_of(config, records)
    ranked = sorted(
        records, key=lambda r: (scores_of(r, [metric], config) or [-1.0])[0], reverse=True
    )
    by_test = config.sweep.select_on == "test"
    chosen = f"test {metric}, which makes the best figure optimistic" if by_test else metric
    hidden = len(ranked) - ROWS_SHOWN
    table = Table(
        title=f"{len(records)} trials, by {chosen}",
        caption=f"{hidden} more are in results.csv" if hidden > 0 else None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE,
        collapse_padding=True,
        pad_edge=False,
    )
    keys = list(config.sweep.axes)
    for key in keys:
        table.add_column(key.rsplit(".", 1)[-1].replace("_", " "), overflow="fold")
    metrics = list(dict.fromkeys(name for r in records for name in (*r.holdout, *r.test)))
    several = len({record.seed for record in records}) > 1
    for name in (*(["seed"] if several else []), *metrics, "state"):
        justify: Literal["left", "right"] = "right" if name in metrics else "left"
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for record in ranked[:ROWS_SHOWN]:
        found = {**record.holdout, **record.test}
        table.add_row(
            *(str(record.values[key]) for key in keys),
            *([str(record.seed)] if several else []),
            *(f"{found[name]:.1%}" if name in found else "" for name in metrics),
            _state(record),
        )
    Console(highlight=False).print(table)


def _print_recommended(data: "SweepData") -> None:
    from dfshield.report.sweep import recommend
    from dfshield.runs.sweep import format_values

    best = recommend(data)
    if best is not None:
        typer.echo(f"Recommended: {format_values(best.values)}. {best.why}")


def _state(record: "TrialRecord") -> str:
    words: list[str] = [record.state] if record.state != "done" else []
    if record.collapsed:
        words.append("collapsed")
    if not record.data_free:
        words.append(f"{REFERENCE_MARK} not data-free")
    return ", ".join([*words, *([record.reason] if record.reason else [])]) or "done"


def print_sweep_status(state: Mapping[str, Any], *, clear: bool) -> None:
    """Print what `sweep_status` returned, on a cleared screen if asked."""
    from rich.console import Console
    from rich.table import Table

    from dfshield.cli.tables import format_driver
    from dfshield.runs.sweep import format_values

    console = Console(highlight=False)
    if clear:
        console.clear()
    console.print(f"{state['sweep']}: {format_driver(state['driver'])}")
    table = Table("Trials")
    table.add_column(str(state["total"]), justify="right")
    for name, number in state["trials"].items():
        if number:
            table.add_row(name, str(number))
    console.print(table)
    best = state["best"]
    if best is not None:
        on = "" if state["select_on"] == "holdout" else "test "
        words = format_values(best["values"])
        console.print(f"Best so far: {words}, {on}{state['metric']} {best['score']:.1%}")
    for remark in state["remarks"]:
        console.print(remark, soft_wrap=True)
    if state["eta_seconds"] is not None:
        console.print(f"{timedelta(seconds=round(state['eta_seconds']))} left")
    for name, reason in state["failed"].items():
        console.print(f"{name} failed: {reason}", style="red")
