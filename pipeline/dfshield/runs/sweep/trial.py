"""One trial of a sweep: a run of its own that trains and measures, on another run's images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dfshield.config import VariantConfig
from dfshield.errors import DfshieldError, UnfitDeviceError, one_line
from dfshield.evaluation import EvaluationResult
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.identity import flatten
from dfshield.runs.layout import RunLayout
from dfshield.runs.pipeline import Run
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.sweep.plan import Trial
from dfshield.runs.sweep.record import (
    TRIAL_STARTED,
    TrialRecord,
    agreements,
    epochs_of,
    kept_holdout,
    read_trial,
    trial_folder,
    worked_seconds,
)
from dfshield.runs.watching.event_log import now
from dfshield.runs.watching.events import Observer
from dfshield.runs.work.history import read_history
from dfshield.storage import Folder

OnEpoch = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Source:
    """A teacher and a surrogate data set that trials share. Picklable.

    Attributes:
        teacher: its folder.
        data: the folder of the data set; None where all are trained on real images.
        refs: object references of its parts where they are in memory, by path.
    """

    teacher: str
    data: str | None
    refs: Mapping[str, object] = field(default_factory=dict)


def run_trial(
    trial: Trial,
    source: Source,
    *,
    root: Folder,
    executor: Executor,
    on_epoch: OnEpoch = lambda *_: None,
    replan: bool = False,
) -> TrialRecord:
    """Train and measure the student of a trial, going on from where an earlier command came to.

    Errors of a trial are results: they are recorded. That its GPU cannot be used is none, since it
    may pass: the trial stays as one that has begun.

    Args:
        trial: what it is.
        source: its teacher and images.
        root: the folder of the sweep.
        executor: who works.
        on_epoch: called with the number of epochs done and the metrics on the hold-out; what it
            raises ends the trial.
        replan: go on under another engine than the trial was begun with.

    Raises:
        UnfitDeviceError: if its GPU is full, busy or faulty.
    """
    folder = trial_folder(root, trial.name)
    before = read_trial(root, trial.name)
    record = TrialRecord(
        name=trial.name,
        values=dict(trial.values),
        seed=trial.seed,
        state="running",
        started=before.started if before else now(),
        data_free=trial.config.data_free,
    )
    record.write(root)
    try:
        found = _train_and_measure(
            trial, source, folder, executor=executor, on_epoch=on_epoch, replan=replan
        )
        found = {"epochs": trial.config.training.epochs, **found, "state": "done"}
    except UnfitDeviceError:
        raise
    except (DfshieldError, MemoryError) as error:
        epochs = len(epochs_of(folder))
        found = {"state": "failed", "reason": one_line(error), "epochs": epochs}
    record = record.model_copy(update={**found, "seconds": worked_seconds(folder)})
    record.write(root)
    return record


def _train_and_measure(
    trial: Trial,
    source: Source,
    folder: Folder,
    *,
    executor: Executor,
    on_epoch: OnEpoch,
    replan: bool,
) -> dict[str, Any]:
    config = trial.config

    def hear(event: str, fields: Mapping[str, Any]) -> None:
        if event == "epoch":
            on_epoch(fields["epoch"] + 1, fields)

    run = _run_of(trial, source, folder, executor=executor, hear=hear, replan=replan)
    run.context.refs[trial.seed] = dict(source.refs)
    run.context.log.emit(TRIAL_STARTED, **dict(flatten(trial.values)))
    names = [stage.name for stage in STAGES.values() if stage.in_sweep == "trial"]
    run.work([name for name in names if STAGES[name].check(config, names) is None])
    student = run.context.layout.student(trial.seed)
    holdout = kept_holdout(student, best=config.training.select == "holdout")
    of_baseline = {} if config.method is None else {"epochs": _epochs_of_baseline(student)}
    return of_baseline | _measured(holdout, run.results.get(trial.seed, []))


def _epochs_of_baseline(student: Folder) -> int:
    """Return how many epochs a baseline has begun, as it calls them; 0 if it diverged at once."""
    updates = [record for record in read_history(student) if "update" in record]
    return updates[-1]["epoch"] + 1 if updates else 0


def _run_of(
    trial: Trial,
    source: Source,
    folder: Folder,
    *,
    executor: Executor,
    evaluation: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Return a trial as a run in its folder; it measures the student, or what else is asked for."""
    asked = {"models": ("student",), "defences": (), **(evaluation or {})}
    measured = trial.config.evaluation.model_copy(update=asked)
    training = trial.config.training
    if training.data is not None:  # told so that it means the same on every machine
        training = training.model_copy(update={"data": source.data})
    elsewhere = {"teacher": Folder.at(source.teacher)}
    if source.data is not None:
        elsewhere["synthesize"] = Folder.at(source.data)
    return Run(
        trial.config.model_copy(update={"evaluation": measured, "training": training}),
        executor=executor,
        layout=RunLayout(folder, (trial.seed,), elsewhere=elsewhere),
        **options,
    )


def measure_further(
    trial: Trial,
    source: Source,
    attacks: Sequence[VariantConfig],
    *,
    root: Folder,
    executor: Executor,
    observer: Observer,
) -> list[EvaluationResult]:
    """Return a finished trial's student under other attacks than those of its sweep, clean first.

    What was measured is not measured again. The trial's record stays as it is.

    Args:
        trial: what it is.
        source: its teacher and images.
        attacks: to meet.
        root: the folder of the sweep.
        executor: who works.
        observer: who watches.
    """
    folder = trial_folder(root, trial.name)
    met = {"attacks": tuple(attacks)}
    run = _run_of(trial, source, folder, executor=executor, evaluation=met, observer=observer)
    run.work(["evaluate"])
    return run.results[trial.seed][: len(attacks) + 1]


def measure_teacher(
    trial: Trial,
    source: Source,
    defence: VariantConfig | None,
    *,
    folder: Folder,
    executor: Executor,
    observer: Observer,
) -> list[EvaluationResult]:
    """Return the teacher of a trial, clean and under the attacks of its sweep, clean first.

    What was measured is not measured again. There need be no student.

    Args:
        trial: what it is of.
        source: its teacher and images.
        defence: what the teacher is measured behind; None if by itself, on clean images alone.
        folder: takes the results.
        executor: who works.
        observer: who watches.
    """
    asked: dict[str, Any] = {"models": ("teacher",), "defences": (defence,) if defence else ()}
    asked |= {} if defence else {"attacks": ()}
    run = _run_of(trial, source, folder, executor=executor, evaluation=asked, observer=observer)
    run.work(["evaluate"])
    return [
        result
        for result in run.results[trial.seed]
        if (result.defence is None) == (defence is None)
    ]


def _measured(holdout: Mapping[str, Any], results: list[EvaluationResult]) -> dict[str, Any]:
    collapsed = bool(holdout.get("collapsed", False)) or any(r.collapsed for r in results[:1])
    return {
        "holdout": agreements(holdout),
        "test": {_label(result, results): result.accuracy for result in results},
        "floor": results[0].floor if results else None,
        "collapsed": collapsed,
    }


def _label(result: EvaluationResult, results: list[EvaluationResult]) -> str:
    if sum(other.label == result.label for other in results) == 1:
        return result.label
    return f"{result.label} {result.norm} {result.eps:g}"
