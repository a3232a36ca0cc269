"""Which measure on synthetic images ranks students as AutoAttack on real ones does?

    python tests/benchmarks/selection.py
    python tests/benchmarks/selection.py --only digits-lambda
    python tests/benchmarks/selection.py --small

Families of students (`selection_families.py`) are sweeps, each measured with AutoAttack on real
test images. Of every student, figures without real images are taken (`selection_figures.py`): on
a hold-out made as the other images are, on new images of its rule and of fixed coefficients, on
those of which the teacher is sure and on the others. Candidate measures are products and rank sums
of these (`selection_ranking.py`). One rule is fixed on the first half of the families and written
to ``rule.json``, before any student of the second half is looked at; it is never changed
afterwards.

It continues in ``--out`` where it stopped. With the defaults it takes many hours on a core.
``--small`` rehearses it in a minute or two: its figures mean nothing.
"""

import json as encoder
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from selection_families import FAMILIES, REHEARSED, SMALL, Family
from selection_figures import HOLDOUT, Subject, measure, questions_of
from selection_ranking import Student, best_rule, candidates, standing

from dfshield.config import Config, config_from
from dfshield.epsilon import parse_epsilon
from dfshield.pixels import as_floats
from dfshield.runs import InProcessExecutor, Run, RunLayout
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.sweep import InProcessRunner, Sweep, TrialRecord, trial_folder
from dfshield.storage import Folder, SurrogateDataset

SURE = 0.95
SETS = ("fresh", "fixed", "sure", "unsure")
BEFORE = "holdout/kl"
DEFAULT = "fixed/kl"
"""The default measure on the hold-out that is made by default, as a candidate. That of the families
is made as what they are trained on, and so `holdout` in a candidate's name is another one."""


def students_of(config: Config) -> list[TrialRecord]:
    """Train and attack the students of a family, or what is left of them."""
    executor = InProcessExecutor()
    records = Sweep(config, executor=executor, runner=InProcessRunner(executor)).run()
    return [record for record in records if record.state == "done"]


def image_sets(
    config: Config, family: Family, num_images: int, more: Iterable[str]
) -> dict[str, Folder]:
    """Make the sets that are measured on beside the hold-out; return where all lie."""
    layout = RunLayout.of(config)
    known = config.training.data
    holdout = (
        layout.synthetic(config.seed) if known is None else SurrogateDataset.open(known).folder
    )
    found = {HOLDOUT: holdout}
    rules: dict[str, dict[str, Any]] = {
        "fresh": {},
        "fixed": {"coefficients": {"rule": "fixed", "feature_scale": 0.1}, "labels": "balanced"},
    }
    for name, rule in rules.items():
        tree = config.model_dump(mode="json", exclude={"sweep", "seeds", "training", "evaluation"})
        method = {**tree["synthesis"]["method"], **_overridden([*family.fresh, *more]), **rule}
        size = min(num_images, config.synthesis.batch_size)
        sizes = {"num_images": num_images, "num_holdout": 0, "batch_size": size}
        tree |= {
            "name": f"{config.name}-{name}",
            "seed": config.seed + 1000,
            "teacher": {"source": layout.teacher.path},
            "synthesis": {**tree["synthesis"], **sizes, "method": method},
            "storage": {**tree["storage"], "part_size": size, "shard_size": num_images},
            "training": {"gradrefine": {"num_batches": 1}},  # which nothing is trained with
        }
        run = Run(config_from(tree))
        run.run(["synthesize"])
        found[name] = run.context.layout.synthetic(run.context.config.seed)
    return found


def _overridden(overrides: Iterable[str]) -> dict[str, Any]:
    """Return what overrides say of the options of the synthesizer that are whole numbers."""
    start = "synthesis.method."
    pairs = (one.removeprefix(start).split("=") for one in overrides if one.startswith(start))
    return {key: int(value) for key, value in pairs}


def subjects(
    config: Config, sets: Mapping[str, Folder], teacher: torch.nn.Module
) -> dict[str, Subject]:
    """Return every set of images with the teacher's answers, still without a student."""
    found = {}
    for name, folder in sets.items():
        data = SurrogateDataset.open(folder).load("holdout" if name == HOLDOUT else "data")
        sureness, expected = data.teacher_logits.softmax(1).max(1)
        found[name] = Subject(
            student=teacher,
            teacher=teacher,
            images=as_floats(data.images),
            expected=expected,
            sureness=sureness,
            eps=parse_epsilon(config.threat.eps),
            norm=config.threat.norm,
        )
    sure = found["fresh"].sureness > SURE
    for name, chosen in (("sure", sure), ("unsure", ~sure)):
        # A set with none of them stands for itself whole.
        chosen = chosen if chosen.any() else torch.ones_like(chosen)
        whole = found["fresh"]
        parts = {key: getattr(whole, key)[chosen] for key in ("images", "expected", "sureness")}
        found[name] = Subject(**{**vars(whole), **parts})
    return found


def figures_of(record: TrialRecord, root: Folder, on: Mapping[str, Subject], file: Path) -> Any:
    """Return the figures of a student; those that are in its file are not taken again."""
    known: dict[str, float] = encoder.loads(file.read_text()) if file.exists() else {}
    layout = RunLayout(trial_folder(root, record.name), (record.seed,))
    student = load_classifier(layout.student(record.seed))
    for name, subject in on.items():
        found = measure(Subject(**{**vars(subject), "student": student}), name, known)
        if found:
            known |= found
            file.parent.mkdir(parents=True, exist_ok=True)
            written = file.with_suffix(".tmp")
            written.write_text(encoder.dumps(known, indent=2))
            written.replace(file)
    return known


def family_of(
    name: str, out: Path, *, seeds: int, num_images: int, more: tuple[str, ...]
) -> tuple[list[Student], float]:
    """Return the students of a family, and the default measure's share of a training's seconds."""
    family = FAMILIES[name]
    config = family.settings(name, out / "runs", seeds, more)
    records = students_of(config)
    layout = RunLayout.of(config)
    root = layout.root.child("sweeps", config.sweep.name)
    teacher = load_classifier(layout.teacher)
    on = subjects(config, image_sets(config, family, num_images, more), teacher)
    found, shares = [], []
    for record in records:
        typer.echo(f"{name}: {record.name}", err=True)
        file = out / "figures" / name / f"{record.name}.json"
        figures = figures_of(record, root, on, file)
        robust = [v for k, v in record.test.items() if k != "clean"][-1]
        floor = record.floor or 0.0
        found.append(
            Student(
                name=record.name,
                seed=record.seed,
                clean=record.test["clean"],
                robust=robust,
                works=record.test["clean"] > floor + (1 - floor) / 2,
                collapsed=record.collapsed,
                figures=figures,
            )
        )
        taken = (f"seconds:{HOLDOUT}/{question}" for question in ("clean", "kl"))
        shares.append(sum(figures[key] for key in taken) / max(record.seconds, 1e-9))
    return found, sum(shares) / len(shares)


Tables = dict[str, dict[str, Any]]
"""By family, then by candidate: its `Standing`."""


def fixed_rule(out: Path, names: Iterable[str], tables: Tables) -> str | None:
    """Return the rule of the first half, fixing it once all of it is measured; None before that."""
    file = out / "rule.json"
    if not file.exists():
        if any(name not in tables for name in names):
            return None
        first = {name: tables[name] for name in names}
        told = {name: asdict(table[best_rule(first)]) for name, table in first.items()}
        file.write_text(encoder.dumps({"rule": best_rule(first), "chosen_on": told}, indent=2))
    rule: str = encoder.loads(file.read_text())["rule"]
    return rule


def show(name: str, table: Mapping[str, Any], students: list[Student], rule: str | None) -> None:
    """Print the best candidates of a family, and those that have a name."""
    named = {BEFORE: "before", rule: "rule", DEFAULT: "default"}
    titles = ("ρ all", "τ all", "ρ works", "τ works", "regret", "regret, clean ≥ 95 %")
    shown = Table("Measure", *titles)
    ranked = sorted(table, key=lambda key: -(table[key].spearman_works or -1.0))
    for key in dict.fromkeys([*(k for k in named if k in table), *ranked[:15]]):
        one = table[key]
        cells = [
            "–" if value is None else f"{value:.2f}"
            for value in (one.spearman, one.kendall, one.spearman_works, one.kendall_works)
        ]
        points = [f"{100 * value:.1f}" for value in (one.regret, one.regret_bound)]
        note = f" ({named[key]})" if key in named else ""
        shown.add_row(f"{key}{note}", *cells, *points)
    working = sum(s.works for s in students)
    title = f"{name}: {len(students)} students, {working} of them work; regret in points"
    Console(width=140).print(title, shown)


def main(
    out: Annotated[Path, typer.Option(help="Folder of all of it.")] = Path("runs/selection"),
    only: Annotated[list[str] | None, typer.Option(help="A family; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0.", min=1)] = 2,
    images: Annotated[int, typer.Option(help="Of each set beside the hold-out.", min=1)] = 400,
    small: Annotated[bool, typer.Option("--small", help="A rehearsal.")] = False,
) -> None:
    out = out.resolve()
    for name in only or []:
        if name not in FAMILIES:
            raise typer.BadParameter(f"{name}: choose among {', '.join(FAMILIES)}")
    known = REHEARSED if small else tuple(FAMILIES)
    images, more = (20, SMALL) if small else (images, ())
    every = candidates((HOLDOUT, *SETS), questions_of(HOLDOUT))
    first = [name for name in known if FAMILIES[name].half == "first"]
    tables: Tables = {}
    for name in sorted(known, key=lambda name: name not in first):
        rule = fixed_rule(out, first, tables)
        if only and name not in only:
            continue
        if name not in first and rule is None:
            typer.echo(f"{name}: no rule is fixed yet: measure {', '.join(first)} first", err=True)
            raise typer.Exit(2)
        students, cost = family_of(name, out, seeds=seeds, num_images=images, more=more)
        tables[name] = {key: standing(one, students) for key, one in every.items()}
        rule = fixed_rule(out, first, tables)
        show(name, tables[name], students, rule)
        Console().print(f"The default measure takes {100 * cost:.1f} % of a training's seconds.")
        told = {
            "rule": rule,
            "cost": cost,
            "measures": {key: asdict(one) for key, one in tables[name].items()},
            "students": [asdict(student) for student in students],
        }
        (out / f"{name}.json").write_text(encoder.dumps(told, indent=2))


if __name__ == "__main__":
    typer.run(main)
