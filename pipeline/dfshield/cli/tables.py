"""Results, status and verification as tables on the terminal."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dfshield.evaluation import EvaluationResult, mean_and_spread
from dfshield.report.scores import ADVICE, format_eps
from dfshield.results import AGREEMENT_CLEAN, AGREEMENT_PGD, CorruptionsResult
from dfshield.runs.driver.corruptions import corruption_rows
from dfshield.runs.watching.status import status_lines
from dfshield.runs.watching.wording import format_rate

DEATHS_SHOWN = 10


def print_results(
    results: Mapping[int, Sequence[EvaluationResult]], *, advice: bool = True
) -> None:
    """Print teacher and student side by side, one row per attack.

    Args:
        results: of each seed.
        advice: whether to say what may help a student that has fallen; a baseline's has none.
    """
    flat = [result for of_seed in results.values() for result in of_seed]
    first = flat[0]
    seeds = f", seeds {', '.join(map(str, results))}" if len(results) > 1 else ""
    table = Table(
        title=f"{first.num_images} real images of {first.data.name} ({first.data.split}){seeds}",
        caption=(
            "Below an accuracy: its 95 % interval, the mean over the classes, and the class "
            "predicted most with its share of the images. "
            f"A constant classifier scores {first.floor:.1%} (the floor)."
            + "".join(f"\nNote: {escape(remark)}." for remark in _said_of_data(flat))
        ),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("Attack")
    models = tuple(dict.fromkeys(result.model for result in flat))
    for model in models:
        table.add_column(model.capitalize(), justify="right")
    table.add_column("Remarks")
    for threat, label in dict.fromkeys((_threat(r), r.label) for r in flat):
        rows = {
            seed: [r for r in of_seed if (_threat(r), r.label) == (threat, label)]
            for seed, of_seed in results.items()
        }
        attack = f"{label} {threat}".strip()
        if len(rows) > 1:
            row = [r for of_seed in rows.values() for r in of_seed]
            table.add_row(attack, *(_mean([r for r in row if r.model == m]) for m in models))
        for seed, row in rows.items():
            cells = ("\n".join(_figures(r) for r in row if r.model == m) for m in models)
            remarks = "; ".join(remark for r in row for remark in _remarks(r))
            if len(rows) > 1:
                table.add_row(f"  seed {seed}", *cells, remarks, style="dim")
            else:
                table.add_row(attack, *cells, remarks)
    Console().print(table)
    fallen = any(r.model == "student" and (r.collapsed or r.below_floor) for r in flat)
    if advice and fallen:
        Console().print(ADVICE, highlight=False)


def print_corruptions(results: Mapping[int, Sequence[CorruptionsResult]]) -> None:
    """Print accuracies on corrupted images, one table a seed; nothing without any."""
    for seed, of_seed in results.items():
        first = of_seed[0]
        table = Table(
            title=f"{first.data.num_images} real images of {first.data.name}, corrupted"
            + (f", seed {seed}" if len(results) > 1 else ""),
            caption=f"Means over the severities {', '.join(map(str, first.severities))}.",
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("Corruption")
        for result in of_seed:
            table.add_column(result.model.capitalize(), justify="right")
        for title, shares in corruption_rows(of_seed):
            table.add_row(title, *(f"{share:.1%}" for share in shares))
        Console().print(table)


def as_shown(results: Mapping[int, Sequence[CorruptionsResult]]) -> list[dict[str, Any]]:
    """Return accuracies on corrupted images ready for JSON, with their means."""
    return [
        {**result.model_dump(mode="json"), "mean": result.mean}
        for of_seed in results.values()
        for result in of_seed
    ]


def _remarks(result: EvaluationResult) -> list[str]:
    remarks = [f"{result.model} {flag}" for flag in result.flags]
    if result.adaptive_how is not None:
        said = "adaptive" if result.adaptive else "attacked by"
        remarks.append(f"{result.model} {said}: {result.adaptive_how}")
    return remarks


def _said_of_data(results: Sequence[EvaluationResult]) -> list[str]:
    return list(dict.fromkeys(remark for r in results for remark in r.data.remarks))


def _threat(result: EvaluationResult) -> str:
    return "" if result.eps is None else f"{result.norm} {format_eps(result.eps)}"


def _mean(results: Sequence[EvaluationResult]) -> str:
    if not results:
        return ""
    mean, spread = mean_and_spread(results)
    return f"{mean:.1%}" if spread is None else f"{mean:.1%} ± {spread:.1%}"


def _figures(result: EvaluationResult) -> str:
    low, high = result.interval
    histogram = result.prediction_histogram
    most = max(range(len(histogram)), key=histogram.__getitem__)
    return (
        f"{result.accuracy:.1%}\n[dim]{100 * low:.1f} to {100 * high:.1f}\n"
        f"balanced {result.balanced_accuracy:.1%}\n"
        f"mostly {most}: {histogram[most] / result.num_images:.0%}[/dim]"
    )


def print_unmeasured(state: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Print what is known of students that no real image was measured with, if there are such.

    Args:
        state: of the run, as `run_status` returns it.
        arguments: of the command: the configuration's file and overrides of its keys.
    """
    without = [s for s in state["seeds"] if not s["real_images_measured"]]
    if not without:
        return
    known = [s["train"]["holdout"] for s in without if s["train"]["holdout"]]
    table = Table(
        *("Student", "Agreement", "Under PGD", "Remarks"),
        title="Synthetic hold-out: no real image was measured",
        caption=(
            "Agreement: the student answers like the teacher on images that were made from the "
            "teacher and that no training saw."
        ),
        title_justify="left",
        caption_justify="left",
    )
    for of_seed in without:
        seed, holdout = of_seed["seed"], of_seed["train"]["holdout"]
        student = "the student" if seed is None else f"seed {seed}"
        if holdout is None:
            table.add_row(student, "not known", "not known", "no hold-out")
            continue
        remark = f"epoch {holdout['epoch'] + 1}, {sum(holdout['histogram'])} images"
        remark += ", collapsed" if holdout["collapsed"] else ""
        clean, robust = holdout[AGREEMENT_CLEAN], holdout[AGREEMENT_PGD]
        table.add_row(student, f"{clean:.1%}", f"{robust:.1%}", remark)
    if len(known) > 1:
        pairs = ([h[key] for h in known] for key in (AGREEMENT_CLEAN, AGREEMENT_PGD))
        table.add_row("mean ± s.d.", *(f"{fmean(p):.1%} ± {stdev(p):.1%}" for p in pairs), "")
    console = Console(highlight=False)
    console.print(table)
    data = ["evaluation.data.name=folder", "evaluation.data.path=PATH"]
    evaluate = shlex.join(["dfshield", "evaluate", *arguments, *data])
    report = shlex.join(["dfshield", "report", *arguments])
    for line in (*state["remarks"], f"To measure it: {evaluate}", f"and then: {report}"):
        console.print(escape(line), soft_wrap=True)


def print_status(state: Mapping[str, Any], *, clear: bool) -> None:
    """Print what `run_status` returned, on a cleared screen if asked."""
    console = Console(highlight=False)
    if clear:
        console.clear()
    title = f"{state['run']}: {format_driver(state['driver'])}"
    table = Table(title=title, title_justify="left")
    for column in ("Seed", "Stage", "State", "Progress"):
        table.add_column(column)
    for seed, line in status_lines(state):
        table.add_row(seed, *line)
    console.print(table)
    for of_seed in state["seeds"]:
        _print_workers(console, of_seed["synthesize"])
    deaths = state["deaths"]
    if len(deaths) > DEATHS_SHOWN:
        console.print(f"{len(deaths) - DEATHS_SHOWN} earlier deaths are in --json")
    for remark in state["remarks"]:
        console.print(escape(remark), soft_wrap=True)
    for death in deaths[-DEATHS_SHOWN:]:
        unit = f" at {death['unit']}" if death["unit"] else ""
        console.print(f"{_clock(death['time'])} {death['who']} died{unit}: {death['reason']}")
    last = state["last_event"]
    if last:
        console.print(f"Last event: {last['event']} {_clock(last['time'])}")


def _print_workers(console: Console, synthesis: Mapping[str, Any]) -> None:
    for failed in synthesis.get("failed", ()):
        console.print(f"{failed['part']} failed: {failed['reason']}", style="red")
    if not synthesis.get("running"):
        return
    table = Table("Worker", "Host", "GPU", "Works on", "Images", "Rate")
    for worker in synthesis["workers"]:
        if worker["state"] != "lost":
            table.add_row(
                worker["worker"],
                worker["host"],
                " ".join(worker["gpus"]),
                worker["part"],
                f"{worker['images']:,}",
                format_rate(worker["images_per_second"]),
            )
    console.print(table)


def format_driver(driver: Mapping[str, Any]) -> str:
    """Return in words who works on a run."""
    if driver["state"] == "none":
        return "nobody is at work"
    who = f"process {driver['process']} on {driver['host']}, since {_clock(driver['since'])}"
    if driver["state"] == "dead":
        return f"{who}, has died; last sign of life {_clock(driver['heartbeat'])}"
    return f"{who}, is at work"


def _clock(moment: str) -> str:
    """Return a time of the event log as local time."""
    try:
        return datetime.fromisoformat(moment).astimezone().isoformat(" ", "seconds")
    except ValueError:
        return moment
