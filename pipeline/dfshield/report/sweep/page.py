"""The report of a sweep: one HTML page that needs no network and no second file."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from dfshield.report.scores import format_points
from dfshield.report.sweep.axes import describe
from dfshield.report.sweep.figures import SweepFigure, sweep_figures
from dfshield.report.sweep.marks import Raised, legend, marks_of
from dfshield.report.sweep.matrix import matrix_of
from dfshield.report.sweep.paper import PaperCell, paper_cells, recipe_differences
from dfshield.report.sweep.scatter import correlation
from dfshield.report.sweep.settings import Measure, Pooled, Setting, chosen_by, holdout_measures
from dfshield.report.sweep.trials import SweepData, SweepTrial
from dfshield.report.sweep.view import SweepView, view_of
from dfshield.report.templating import environment
from dfshield.results import SOME_NOT_DATA_FREE
from dfshield.unmeasured import UNMEASURED


@dataclass(frozen=True)
class _Row:
    """One setting in the table."""

    name: str
    seeds: tuple[int, ...]
    figures: tuple[Pooled | None, ...]
    floor: float | None
    marks: tuple[Raised, ...]
    recommended: bool
    on_front: bool
    on_holdout_front: bool
    paper: PaperCell | None


@dataclass(frozen=True)
class _TrialRow:
    """One trial in the list."""

    trial: SweepTrial
    setting: str
    figures: tuple[float | None, ...]


def render_sweep_page(data: SweepData, figures: Mapping[str, SweepFigure] | None = None) -> str:
    """Return the report of a sweep, finished or not, as a self-contained HTML page.

    Args:
        data: of the sweep.
        figures: what ``sweep_figures`` gave for the same data; None: they are drawn.
    """
    view = view_of(data)
    measures = _measures(view)
    rows = _rows(view, measures)
    trials = [_trial_row(view, trial, measures) for trial in data.trials]
    matrix = matrix_of(view)
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            data=data,
            view=view,
            measures=measures,
            metric=chosen_by(data),
            figures=_sections(sweep_figures(data) if figures is None else figures),
            matrix=matrix,
            matrix_legend=legend(matrix.marks) if matrix else [],
            rows=rows,
            mark_meaning=_meanings(rows),
            has_paper=any(row.paper for row in rows),
            recipe_differences=recipe_differences(data),
            trials=trials,
            ended_badly=[row for row in trials if row.trial.state in _ENDED_BADLY],
            progress=_progress(data.trials),
            unfinished=any(trial.state in ("waiting", "running") for trial in data.trials),
            proxy_meaning=_proxy_meaning(view),
            correlation=correlation(view.proxy) if view.proxy else "",
            recommended_yaml=_overrides(view),
            said_if_unmeasured="" if data.data_name else UNMEASURED,
            said_of_references=""
            if all(trial.data_free for trial in data.trials)
            else SOME_NOT_DATA_FREE,
        )
    )


_ENDED_BADLY = ("failed", "stopped", "interrupted")


def _measures(view: SweepView) -> tuple[Measure, ...]:
    """Return the columns of the tables: clean, robust, hold-out, what was chosen by; each once."""
    wanted = (view.clean, view.robust, *holdout_measures(view.data), chosen_by(view.data))
    return tuple({(measure.source, measure.key): measure for measure in wanted}.values())


def _rows(view: SweepView, measures: tuple[Measure, ...]) -> list[_Row]:
    """Return the settings, the best by the selection metric first, those without it last."""
    metric = chosen_by(view.data)
    pairs = zip(view.settings, paper_cells(view.data), strict=True)

    def standing(pair: tuple[Setting, PaperCell | None]) -> tuple[bool, bool, float]:
        figure = pair[0].figure(metric)
        return (
            not view.is_recommended(pair[0]),
            pair[0].collapsed or figure is None,
            -figure.mean if figure else 0.0,
        )

    return [
        _Row(
            name=view.name(setting),
            seeds=tuple(trial.seed for trial in setting.trials),
            figures=tuple(setting.figure(measure) for measure in measures),
            floor=setting.floor,
            marks=marks_of(setting),
            recommended=view.is_recommended(setting),
            on_front=setting in view.front,
            on_holdout_front=view.clean.source == "test" and setting in view.holdout_front,
            paper=paper,
        )
        for setting, paper in sorted(pairs, key=standing)
    ]


def _trial_row(view: SweepView, trial: SweepTrial, measures: tuple[Measure, ...]) -> _TrialRow:
    return _TrialRow(
        trial=trial,
        setting=describe(view.axes, trial.values),
        figures=tuple(trial.figure(measure.source, measure.key) for measure in measures),
    )


def _meanings(rows: Iterable[_Row]) -> dict[str, str]:
    """Return what the marks in the table mean, each once."""
    return {one.mark.name: one.mark.meaning for row in rows for one in row.marks}


def _sections(figures: Mapping[str, SweepFigure]) -> dict[str, list[SweepFigure]]:
    """Return the figures by the heading that they stand under."""
    headings = {"heatmap": "Heat maps", "curves": "Curves", "pareto": "Clean against robust"}
    sections: dict[str, list[SweepFigure]] = {}
    for name, figure in figures.items():
        heading = headings.get(name.partition("-")[0])
        if heading:
            sections.setdefault(heading, []).append(figure)
    sections["proxy"] = [figure for name, figure in figures.items() if name == "proxy"]
    return sections


def _progress(trials: Iterable[SweepTrial]) -> str:
    """Return how many trials are in which state: ``"34 done, 2 failed"``."""
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials"


def _proxy_meaning(view: SweepView) -> str:
    """Return what the rank correlation means for choosing without real images."""
    proxy = view.proxy
    if proxy is None:
        return ""
    if proxy.spearman >= 0.8:
        verdict = "The hold-out ranked the settings much as the real images do"
    elif proxy.spearman >= 0.5:
        verdict = "The hold-out ranked the settings roughly as the real images do"
    elif proxy.spearman >= 0:
        verdict = "The hold-out hardly ranked the settings as the real images do"
    else:
        verdict = "The hold-out ranked the settings against the order of the real images"
    few = " With so few settings the correlation is itself uncertain." if _few(view) else ""
    if proxy.lost is None:
        return f"{verdict}.{few}"
    return (
        f"{verdict}: the setting that it puts first lies {format_points(proxy.lost)} points below "
        f"the best one under {proxy.real.title}.{few}"
    )


def _few(view: SweepView) -> bool:
    return view.proxy is not None and view.proxy.num_settings < 10


def _overrides(view: SweepView) -> str:
    """Return the recommended setting as overrides of the command line."""
    values = view.recommendation.values if view.recommendation else {}
    said: dict[str, Any] = {}
    for axis in view.axes:
        if axis.key in values:
            value = values[axis.key]
            said |= view.data.cases[axis.key][value] if axis.named else {axis.key: value}
    return " ".join(quote(f"{key}={_written(value)}") for key, value in said.items())


def _written(value: Any) -> str:
    """Return a value as an override has it; JSON is YAML."""
    return value if isinstance(value, str) else json.dumps(value)
