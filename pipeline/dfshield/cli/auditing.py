"""The commands ``audit``, and ``evaluate`` for models that no run has made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from dfshield.cli.execution import at_work, working
from dfshield.cli.machine_output import print_json
from dfshield.cli.others import ModelOptions

if TYPE_CHECKING:
    from dfshield.audit import AuditReport
    from dfshield.storage import Folder

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "not run": "dim"}


def audit_command(
    config: str | None, overrides: Sequence[str], options: ModelOptions, *, as_json: bool
) -> bool:
    """Audit a run's model, or one of any origin; print the list, return whether no line fails."""
    audits = (
        _audit_standalone(options, overrides)
        if options.model is not None
        else _audit_run(config, overrides, options)
    )
    if as_json:
        print_json([report.model_dump(mode="json") for report, _ in audits])
    else:
        for report, place in audits:
            print_audit(report, place)
    return all(report.verdict != "fail" for report, _ in audits)


def _audit_run(
    config: str | None, overrides: Sequence[str], options: ModelOptions
) -> "list[tuple[AuditReport, Folder]]":
    options.refuse_with_config()
    with at_work(config or "", overrides) as (settings, executor, observer):
        from dfshield.runs import Run

        run = Run(settings, executor=executor, observer=observer)
        return run.audit()


def _audit_standalone(
    options: ModelOptions, overrides: Sequence[str]
) -> "list[tuple[AuditReport, Folder]]":
    with working(lambda: options.settings(overrides), options.layout) as parts:
        settings, executor, observer = parts
        from dfshield.runs.driver.audit import audit_model
        from dfshield.runs.external_model import standalone

        with standalone(
            settings,
            options.layout(settings),
            surrogate=options.surrogate,
            executor=executor,
            observer=observer,
        ) as (context, subject):
            return [audit_model(context, settings.seed, subject)]


def evaluate_standalone(options: ModelOptions, overrides: Sequence[str], *, as_json: bool) -> None:
    """Measure a model of any origin, clean and under attack, and print the results."""
    with working(lambda: options.settings(overrides), options.layout) as parts:
        settings, executor, observer = parts
        from dfshield.cli.tables import as_shown, print_corruptions, print_results
        from dfshield.runs.driver.corruptions import read_corruptions
        from dfshield.runs.driver.evaluate import measure_models
        from dfshield.runs.external_model import standalone

        with standalone(
            settings,
            options.layout(settings),
            surrogate=options.surrogate,
            executor=executor,
            observer=observer,
        ) as (context, subject):
            results = measure_models(context, settings.seed, [subject])
            corrupted = read_corruptions(context, settings.seed)
        by_seed = {settings.seed: corrupted} if corrupted else {}
        folder = context.layout.evaluation(settings.seed)
    if as_json:
        shown = [result.model_dump(mode="json") for result in results]
        extra = {"corruptions": as_shown(by_seed)} if by_seed else {}
        print_json({"folder": folder.uri, "results": shown, **extra})
    else:
        print_results({settings.seed: results})
        print_corruptions(by_seed)
        typer.echo(f"Results and one row per image: {folder}")


def print_audit(report: "AuditReport", place: "Folder") -> None:
    """Print one row per line of the list, and where the page lies."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from dfshield.report import format_eps

    table = Table(
        title=(
            f"{report.model}: {report.data.num_images} images of {report.data.name}, "
            f"{report.norm} {format_eps(report.eps)}"
        ),
        title_justify="left",
    )
    for column in ("What has to hold", "Verdict", "Found"):
        table.add_column(column)
    for line in report.checks:
        verdict = f"[{_STYLES[line.verdict]}]{line.verdict}[/]"
        table.add_row(escape(line.title), verdict, escape(line.finding))
    console = Console()
    console.print(table)
    console.print(_format_failed(report.failed()))
    for remark in report.data.remarks:
        console.print(f"Note: {escape(remark)}.")
    console.print(f"{place}.html", soft_wrap=True)


def _format_failed(failed: Sequence[str]) -> str:
    if not failed:
        return "No line fails: nothing was found that hides the gradient."
    return (
        f"Fails: {', '.join(failed)}. Accuracy of this model under gradient attacks cannot be "
        "believed, or is worth nothing."
    )
