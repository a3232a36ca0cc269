"""The report of a sweep: from its records to pictures and one page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dfshield.config import Config, dump_config
from dfshield.epsilon import parse_epsilon
from dfshield.runs.driver.report import package_versions
from dfshield.runs.identity import flatten
from dfshield.runs.names import PAGE, REPORT
from dfshield.runs.sweep.cases import case_settings, comparable, varied_keys
from dfshield.runs.sweep.metrics import metric_of, shown_measure
from dfshield.runs.sweep.plan import Trial
from dfshield.runs.sweep.record import TrialRecord
from dfshield.storage import Folder
from dfshield.training import MEASURES

if TYPE_CHECKING:  # it brings matplotlib, which workers can do without
    from dfshield.report.sweep import SweepData, SweepTrial


def write_report(
    root: Folder,
    config: Config,
    *,
    planned: Sequence[Trial],
    records: Sequence[TrialRecord],
    teacher: Mapping[str, float],
) -> None:
    """Write ``report/index.html`` of a sweep, and every picture as PNG and SVG beside it.

    Args:
        root: folder of the sweep.
        config: of the sweep.
        planned: its trials in order; empty where a sampler drew them.
        records: of the trials that were begun.
        teacher: the teacher's accuracy by the label of the attack.
    """
    from dfshield.report.sweep import render_sweep_page, sweep_figures

    data = sweep_data(config, planned, records, teacher=teacher)
    figures = sweep_figures(data)
    folder = root.child(REPORT)
    for name, figure in figures.items():
        folder.write_bytes(f"{name}.png", figure.png)
        folder.write_bytes(f"{name}.svg", figure.svg)
    folder.write_bytes(PAGE, render_sweep_page(data, figures).encode())


def sweep_data(
    config: Config,
    planned: Sequence[Trial],
    records: Sequence[TrialRecord],
    *,
    teacher: Mapping[str, float],
) -> "SweepData":
    """Return a sweep as its report takes it; see `write_report`."""
    from dfshield.report.sweep import SweepData

    known = {record.name: record for record in records}
    trials = [_trial(known.pop(t.name, None), t) for t in planned]
    trials += [_trial(record, None) for record in known.values()]
    swept, varied = config.sweep.axes, varied_keys(config.sweep)
    settings = config.model_dump(mode="json", exclude={"sweep", "seeds", "cluster", "trackers"})
    made = [trial.config for trial in planned] or [config]
    measured_on = [one.evaluation.data.name for one in made if one.evaluation.data is not None]
    return SweepData(
        name=f"{config.name}: {config.sweep.name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=", ".join(dict.fromkeys(one.teacher.source for one in made)),
        data_name=", ".join(dict.fromkeys(measured_on)) or None,
        threat={"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        parameters={key: tuple(dict.fromkeys(t.values[key] for t in trials)) for key in swept},
        select_on=config.sweep.select_on,
        metric=metric_of(config, records),
        measure=shown_measure(config, records),
        keep_clean=config.sweep.recommend.keep_clean,
        titles={name: measure.title for name, measure in MEASURES.items()},
        trials=tuple(trials),
        teacher=dict(teacher),
        config_yaml=dump_config(config),
        versions=package_versions(),
        settings={key: value for key, value in flatten(settings) if key not in varied},
        cases=case_settings(config.sweep),
        comparable=comparable(config.sweep),
    )


def _trial(record: TrialRecord | None, planned: Trial | None) -> "SweepTrial":
    from dfshield.report.sweep import SweepTrial

    if record is None:
        assert planned is not None
        nothing: dict[str, Any] = {"holdout": {}, "test": {}, "floor": None, "collapsed": False}
        nothing["data_free"] = planned.config.data_free
        return SweepTrial(
            planned.name, "waiting", dict(planned.values), planned.seed, seconds=0.0, **nothing
        )
    return SweepTrial(
        name=record.name,
        state="interrupted" if record.state == "running" else record.state,
        values=record.values,
        seed=record.seed,
        holdout=record.holdout,
        test=record.test,
        floor=record.floor,
        collapsed=record.collapsed,
        seconds=record.seconds,
        reason=record.reason,
        data_free=record.data_free,
    )
