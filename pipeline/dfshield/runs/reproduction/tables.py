"""What the cells of a table came to, beside the paper's numbers."""

from collections.abc import Mapping, Sequence

from dfshield.config import VariantConfig
from dfshield.experiments import Cell, TableExperiment
from dfshield.report.reproduced import ReproducedTable
from dfshield.report.reproduced_row import Figure, Row, pooled
from dfshield.results.data_free import REFERENCE_MARK
from dfshield.runs.reproduction.cells import Reproduction
from dfshield.runs.reproduction.sets import scores_of_sets
from dfshield.runs.sweep.plan import source_key
from dfshield.runs.sweep.record import TrialRecord
from dfshield.runs.sweep.sweep import Sweep
from dfshield.runs.sweep.trial import measure_further, measure_teacher

TEACHERS = "teachers"
"""In the folder of a sweep: what was measured of its teachers, by `source_key`."""
_THROUGH = "Attacks go through the defences; that the paper's did is not known."
Figures = Mapping[str, Mapping[str, float]]
"""By trial, then by metric of the table: accuracies in [0, 1]."""


def _met_further(found: Reproduction, sweep: Sweep) -> Figures:
    """Have the students of a sweep that has run meet the attacks of the table alone.

    Args:
        found: the table.
        sweep: its sweep.
    """
    if not found.attacks:
        return {}
    known = {r.name: r for _, records in found.records(sweep.root) for r in records}
    figures = {}
    for trial in (trial for of_cell in found.trials.values() for trial in of_cell):
        if trial.name in known and known[trial.name].state == "done":
            results = measure_further(
                trial,
                sweep.sources[source_key(trial.config)],
                tuple(found.attacks.values()),
                root=sweep.root,
                executor=sweep.executor,
                observer=sweep.observer,
            )
            accuracies = (result.accuracy for result in results[1:])
            figures[trial.name] = dict(zip(found.attacks, accuracies, strict=True))
    return figures


def reproduced_table(
    found: Reproduction, experiment: TableExperiment, sweep: Sweep, *, command: str
) -> ReproducedTable:
    """Run what is left of a table; return what its cells came to, beside the paper's numbers.

    Args:
        found: the table at a scale.
        experiment: the table.
        sweep: that has its cells.
        command: that runs it, for the page.

    Raises:
        DfshieldError: if the sweep cannot go on; what was done stays.
    """
    if experiment.teachers:
        sweep.make_sources()
    else:
        sweep.run()
    further, seeds = _met_further(found, sweep), len(found.config.sweep.seeds or (0,))
    sets, images = scores_of_sets(found, sweep, experiment.table.metrics)
    keys = (source_key(found.trials[name][0].config) for name in found.names)
    rows = tuple(
        _of_teacher(found, experiment, cell, name, sweep)
        if experiment.of_teacher(cell.keys)
        else _row(experiment, cell, records, seeds, further, sets.get(key, {}))
        for (cell, records), name, key in zip(
            found.records(sweep.root), found.names, keys, strict=True
        )
    )
    return ReproducedTable(
        table=experiment.table,
        scale=found.scale.name,
        told=f"{found.told} {_THROUGH}" if experiment.defences else found.told,
        rows=rows,
        missing=experiment.missing(found.scale),
        command=command,
        images=images,
    )


def _of_teacher(
    found: Reproduction, experiment: TableExperiment, cell: Cell, name: str, sweep: Sweep
) -> Row:
    """Return the row of a teacher, measured by itself or behind a defence."""
    trial, defence = found.trials[name][0], experiment.defence_of(cell.keys)
    key = source_key(trial.config)
    results = measure_teacher(
        trial,
        sweep.sources[key],
        None if defence is None else VariantConfig.model_validate(defence),
        folder=sweep.root.child(TEACHERS, key),
        executor=sweep.executor,
        observer=sweep.observer,
    )
    # Behind a defence an attack may be called otherwise: "AutoAttack (rand)".
    ours = {result.label.partition(" (")[0]: result.accuracy for result in results}
    ours["clean"] = results[0].accuracy
    return Row(
        cell.keys,
        tuple(
            _figure(experiment, cell, metric, [ours.get(experiment.labels[metric])])
            for metric in experiment.table.metrics
        ),
        (),
        "done",
    )


def _row(
    experiment: TableExperiment,
    cell: Cell,
    records: Sequence[TrialRecord],
    seeds: int,
    further: Figures,
    scores: Mapping[str, float],
) -> Row:
    done = [record for record in records if record.state == "done"]
    labels = experiment.labels
    ours = {metric: [r.test.get(label) for r in done] for metric, label in labels.items()}
    ours |= {m: [further.get(r.name, {}).get(m) for r in done] for m in experiment.attacks}
    ours |= {metric: [score] for metric, score in scores.items()}
    figures = tuple(
        _figure(experiment, cell, metric, ours[metric])
        for metric in experiment.table.metrics
        if metric in ours
    )
    failed = [record.reason for record in records if record.state == "failed"]
    state = "done" if len(done) == seeds else f"{len(done)} of {seeds} seeds"
    return Row(cell.keys, figures, _flags(done), failed[0] if failed else state)


def _flags(done: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return what has to be said of a cell."""
    flags = {
        "collapsed": any(record.collapsed for record in done),
        "below the floor": any(
            record.floor is not None and min(record.test.values(), default=1.0) < record.floor
            for record in done
        ),
        f"{REFERENCE_MARK} not data-free": not all(record.data_free for record in done),
    }
    return tuple(flag for flag, raised in flags.items() if raised)


def _figure(
    experiment: TableExperiment, cell: Cell, metric: str, ours: Sequence[float | None]
) -> Figure:
    table = experiment.table
    place = experiment.paper_place(cell.place)
    known = {name for printed in table.cells for name in printed.keys}
    keys = {**cell.keys, **place}
    printed = table.select(**{k: v for k, v in keys.items() if k in known}, metric=metric)
    theirs = printed[0] if printed else None
    return Figure(
        metric=metric,
        unit=table.metrics[metric].unit,
        ours=pooled(ours),
        theirs=None if theirs is None else theirs.printed,
        notes=() if theirs is None else table.notes_of(theirs),
        compares=not cell.place.stands_for,
    )
