"""The report: one HTML page that needs no network and no second file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from dfshield.brief import Brief
from dfshield.report.figures import accuracy_bars, prediction_histograms, training_curves
from dfshield.report.outcome import SeedOutcome, Training, training_of
from dfshield.report.scores import (
    ADVICE,
    FLAG_MEANING,
    Comparison,
    EvaluationView,
    Score,
    compare,
    model_names,
    read_scores,
    said_of_data,
    strongest,
)
from dfshield.report.templating import environment
from dfshield.report.views import BaselineMethod, Reference, Synthesis, Teacher, Threat, checked
from dfshield.results import NOT_DATA_FREE
from dfshield.unmeasured import unmeasured


@dataclass(frozen=True)
class Section:
    """A section that a stage adds to the page: some text and a table.

    Attributes:
        title: its heading.
        text: a paragraph; may be empty.
        columns: headings of the table; without any there is no table.
        rows: of the table, a cell for every column.
    """

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, repr=False)
class ReportData(Brief):
    """All that the page shows.

    Attributes:
        name: of the run.
        created: when, in ISO 8601.
        teacher: the fields of :class:`dfshield.report.views.Teacher`.
        threat: the fields of :class:`dfshield.report.views.Threat`.
        config_yaml: the resolved configuration, as it would be run again.
        versions: package name to version.
        seeds: one outcome per seed.
        sections: what further stages add.
    """

    name: str
    created: str
    teacher: Mapping[str, Any]
    threat: Mapping[str, Any]
    config_yaml: str
    versions: Mapping[str, str]
    seeds: tuple[SeedOutcome, ...]
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class _SeedView:
    """One seed, typed and with its figure drawn."""

    seed: int
    synthesis: Synthesis | None
    reference: Reference | None
    baseline: BaselineMethod | None
    training: Training
    measured: bool
    curves: tuple[bytes, bytes] | None  # for light and for dark pages


def render_page(data: ReportData) -> str:
    """Return the report as a self-contained HTML page.

    Raises:
        InputError: a field of the data is missing or out of range.
    """
    evaluations = [view for outcome in data.seeds for view in outcome.evaluations]
    teacher = checked(Teacher, data.teacher, "teacher")
    scores = read_scores(evaluations)
    comparisons = compare(scores)
    clean = next((c for c in comparisons if not c.is_attack), None)
    fallen = _alarms(comparisons)
    seeds = [_seed_view(outcome) for outcome in data.seeds]
    without = [seed for seed in seeds if not seed.measured]
    warning = unmeasured([seed.seed for seed in without], len(seeds))
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            data=data,
            teacher=teacher,
            threat=checked(Threat, data.threat, "threat"),
            comparisons=comparisons,
            models=model_names(scores),
            defences={s.model: s.defence for s in scores if s.defence},
            met=_met(scores),
            clean=clean,
            strongest=strongest(comparisons),
            data_free=all(outcome.data_free for outcome in data.seeds),
            alarms=[
                *([] if all(outcome.data_free for outcome in data.seeds) else [NOT_DATA_FREE]),
                *([warning] if warning else []),
                *fallen,
                *_alarms_of_data(scores),
                *_alarms_of_holdout(seeds),
                *_alarms_of_baselines(seeds),
            ],
            advice=ADVICE if fallen and not any(seed.baseline for seed in seeds) else "",
            flag_meaning={
                f: t for f, t in FLAG_MEANING.items() if any(f in s.flags for s in scores)
            },
            measured_on=_measured_on(scores),
            notes=_notes(scores),
            seed_rows=_seed_rows(data.seeds),
            seeds=seeds,
            unmeasured=without,
            mean_agreements=_mean_agreements(without),
            **_figures(evaluations, teacher.class_names),
            data_sets={s.data.fingerprint: s.data for s in scores},
        )
    )


def _figures(
    evaluations: Sequence[EvaluationView], class_names: Sequence[str]
) -> dict[str, tuple[bytes, bytes]]:
    """Return the figures of the evaluations, for light and for dark pages; none without any."""
    if not evaluations:
        return {}
    return {
        "bars": accuracy_bars(evaluations),
        "histograms": prediction_histograms(evaluations, class_names),
    }


def _seed_rows(outcomes: Sequence[SeedOutcome]) -> dict[str, list[tuple[int, Comparison]]]:
    """Return what each seed measured alone, by the title of the attack; empty for one seed."""
    rows: dict[str, list[tuple[int, Comparison]]] = {}
    for outcome in outcomes if len(outcomes) > 1 else ():
        for comparison in compare(read_scores(outcome.evaluations)):
            rows.setdefault(comparison.title, []).append((outcome.seed, comparison))
    return rows


def _seed_view(outcome: SeedOutcome) -> _SeedView:
    training = training_of(outcome)
    curves = None
    if training.updates or training.epochs:
        curves = training_curves(outcome.history)
    measured = bool(outcome.evaluations)
    return _SeedView(outcome.seed, *outcome.images(), outcome.method(), training, measured, curves)


def _mean_agreements(seeds: Iterable[_SeedView]) -> list[tuple[float, float]]:
    """Return mean and spread of the hold-out figures, clean and PGD; empty for less than two."""
    kept = [seed.training.kept.holdout for seed in seeds if seed.training.kept]
    if len(kept) < 2:
        return []
    columns = ([h.agreement_clean for h in kept], [h.agreement_pgd for h in kept])
    return [(fmean(column), stdev(column)) for column in columns]


def _alarms_of_holdout(seeds: Iterable[_SeedView]) -> list[str]:
    """Return a sentence for every student that has collapsed on the synthetic hold-out."""
    return [
        f"Synthetic hold-out, seed {seed.seed}: the student has collapsed: "
        f"{FLAG_MEANING['collapsed']}."
        for seed in seeds
        if seed.training.kept and seed.training.kept.holdout.collapsed
    ]


def _alarms_of_baselines(seeds: Iterable[_SeedView]) -> list[str]:
    """Return a sentence for everything that went wrong where a baseline trained a student."""
    return [
        f"{seed.baseline.name}, seed {seed.seed}: {said}."
        for seed in seeds
        if seed.baseline
        for said in seed.baseline.alarms
    ]


def _alarms(comparisons: Iterable[Comparison]) -> list[str]:
    """Return a sentence for every finding that makes the student's figures worthless."""
    sentences = []
    for comparison in comparisons:
        for flag in comparison.student.flags if comparison.student else ():
            if flag.startswith("collapsed"):
                sentences.append(
                    f"{comparison.title}: the student has {flag}: {FLAG_MEANING['collapsed']}."
                )
            elif flag.startswith("below the floor"):
                sentences.append(
                    f"{comparison.title}: the student is {flag}: {FLAG_MEANING['below the floor']}."
                )
    return sentences


def _alarms_of_data(scores: Iterable[Score]) -> list[str]:
    """Return a sentence for every set of images that the teacher was trained on, in part or all."""
    return list(
        dict.fromkeys(
            f"{s.data.trained_on:,} of the {s.num_images:,} images of {s.data.name} "
            f"({s.data.split}) are training images of the teacher: the figures say little about "
            "images that it has not seen."
            for s in scores
            if s.data.trained_on
        )
    )


def _met(scores: Sequence[Score]) -> dict[str, dict[str, str]]:
    """Return how every attack met the defence of a model, by model and attack."""
    met: dict[str, dict[str, str]] = {}
    for score in scores:
        if score.adaptive_how is not None:
            said = "adaptive" if score.adaptive else "not adaptive"
            met.setdefault(score.model, {})[score.label] = f"{said}: {score.adaptive_how}"
    return met


def _measured_on(scores: Sequence[Score]) -> list[str]:
    """Return which real images each attack was measured on: one sentence per set of images."""
    groups: dict[tuple[str, str, int, int], tuple[list[str], list[int]]] = {}
    for s in scores:
        key = (s.data.name, s.data.split, s.num_images, s.data.num_images)
        labels, seeds = groups.setdefault(key, ([], []))
        labels.append(s.label)
        seeds.append(s.seed)
    sentences = []
    for (name, split, used, total), (labels, seeds) in groups.items():
        count = f"{used:,}" if used == total else f"{used:,} of {total:,}"
        numbers = sorted(set(seeds))
        which = f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        attacks = ", ".join(dict.fromkeys(labels))
        sentences.append(f"{attacks}: {count} real images of {name} ({split} split), {which}")
    return sentences + said_of_data(scores)


def _notes(scores: Iterable[Score]) -> list[str]:
    """Return what the evaluations noted, each said once."""
    return list(dict.fromkeys(f"{s.label}, {s.model}: {note}" for s in scores for note in s.notes))
