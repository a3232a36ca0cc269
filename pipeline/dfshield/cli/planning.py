"""``--plan``: how a stage would be computed, and how long it would take."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dfshield.cli.engine_trial import print_trial, say_aside
from dfshield.cli.execution import chosen_address, load_settings, working
from dfshield.cli.machine_output import print_json

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.runs import StagePlan


def print_plan(
    config: str, overrides: Sequence[str] | None, stage: str, *, as_json: bool = False
) -> None:
    """Measure a few iterations of a stage and tell what the whole would take; write nothing.

    A worker of the cluster that is joined measures, or else this process.
    """
    from dfshield.runs import plan_stage

    settings = load_settings(config, overrides)
    joins = chosen_address(settings.cluster) not in ("none", "local")
    if joins:
        plan = _planned_by_a_worker(settings, stage)
    else:
        plan = plan_stage(settings, stage, say=say_aside)
    if as_json:
        print_json(plan.to_json())
        return
    _print_table(plan, "of the cluster" if joins else "on this machine")
    if plan.engine_trial is not None:
        print_trial(plan.stage, plan.engine_trial)


def _planned_by_a_worker(settings: "Config", stage: str) -> "StagePlan":
    from dfshield.runs import PlanJob, RunMonitor, SilentMonitor

    with working(lambda: settings) as (_, executor, observer):
        engine = executor.engine()
        job = PlanJob(settings, stage, engine, executor.num_workers())
        return executor.run(job, engine=engine, monitor=RunMonitor(SilentMonitor(), observer))


def _print_table(plan: "StagePlan", place: str) -> None:
    from rich.console import Console
    from rich.table import Table

    engine = plan.engine
    table = Table(
        title=f"{plan.stage}: as one worker {place} would do it",
        title_justify="left",
        show_header=False,
    )
    threads = f", {engine.threads} threads" if engine.device == "cpu" else ""
    rows = [
        ("Device", f"{engine.device}{threads}"),
        ("Precision", engine.precision),
        ("Compiled", "yes" if engine.compiled else "no"),
        *([("CUDA graphs", "yes")] if engine.graphed else []),
        ("Batches per pass", str(engine.batches_per_pass)),
        ("Time to begin", format_seconds(plan.seconds_to_begin)),
        (f"Time per {plan.unit}", format_seconds(plan.seconds_per_unit)),
        (f"{plan.unit.capitalize()}s", f"{plan.units:,}"),
        ("Time in all", format_seconds(plan.seconds)),
    ]
    if plan.times_fewer is not None:
        rows.append(("Passes", f"{plan.times_fewer:.1f} times fewer than with the paper's preset"))
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def format_seconds(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return str(timedelta(seconds=round(seconds)))
