"""A sweep: one surrogate data set, many students, and what can be learnt from all of them."""

from dfshield.config import Config, dump_config
from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.identity import filled
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.names import STAGE_FILE
from dfshield.runs.pipeline import Run
from dfshield.runs.records import claim, read_record
from dfshield.runs.sweep.begun import trials_begun
from dfshield.runs.sweep.cases import comparable
from dfshield.runs.sweep.identity import measured_nothing, sweep_identity
from dfshield.runs.sweep.image_checks import (
    check_measured,
    check_references,
    check_surrogates,
    require_references,
)
from dfshield.runs.sweep.metrics import BestSoFar, check_metric
from dfshield.runs.sweep.plan import listed_trials, make_trial, shared_trial, source_key
from dfshield.runs.sweep.record import TrialRecord
from dfshield.runs.sweep.reporting import write_report
from dfshield.runs.sweep.results import write_results
from dfshield.runs.sweep.sources import Sources
from dfshield.runs.sweep.status import SWEEP_FILE
from dfshield.runs.sweep.study import Study, TrialRunner
from dfshield.runs.sweep.trial import Source, run_trial
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer, RunMonitor, SilentObserver
from dfshield.storage import Folder

SWEEPS = "sweeps"


def sweep_folder(config: Config) -> Folder:
    """Return the folder of a configuration's sweep, below that of its run."""
    return RunLayout.of(config).root.child(SWEEPS, config.sweep.name)


class Sweep:
    """The trials of a configuration's sweep section: what is done is not done again.

    ``sources`` has the teachers and data sets by `source_key`, once it has run.

    Args:
        config: of the run, with its sweep section.
        executor: who makes the shared images, and measures the teacher.
        runner: who runs the trials.
        observer: who watches; None is silent.
        replan: let interrupted work go on under another engine.
        retry_failed: do trials that failed again.

    Raises:
        InputError: for what can be known to be wrong before any work is done.
    """

    def __init__(
        self,
        config: Config,
        *,
        executor: Executor,
        runner: TrialRunner,
        observer: Observer | None = None,
        replan: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self.config = config
        self.trials = listed_trials(config)
        self._known = self.trials or [shared_trial(config)]
        for trial in self._known:
            attacks_of(trial.config)
        measured = [t.config for t in self._known if t.config.evaluation.data is not None]
        for one in measured:
            require_evaluation_data(one)
        if len(measured) < len(self._known) and config.sweep.select_on == "test":
            raise InputError(
                "sweep.select_on: test chooses by real images: name them in evaluation.data, or "
                "choose by the synthetic hold-out (sweep.select_on=holdout)"
            )
        check_metric(config)
        self.executor = executor
        self.runner = runner
        self.observer = observer or SilentObserver()
        self.replan = replan
        self.retry_failed = retry_failed
        self.run_layout = RunLayout.of(config)
        self.root = sweep_folder(config)
        self.log = EventLog(self.root)
        self.sources: dict[str, Source] = {}

    def run(self) -> list[TrialRecord]:
        """Do what is still to be done, and write the results and the report.

        Returns:
            All trials that were begun.

        Raises:
            InputError: if another driver is at work on this sweep, or it has other settings.
            DfshieldError: if it cannot go on; what was done stays.
            KeyboardInterrupt: if it was stopped.
        """
        with Lease(self.root, on_beat=self.log.flush):
            self._claim()
            self.root.write_bytes(SWEEP_FILE, dump_config(self.config).encode())
            try:
                self._run()
            finally:
                self.log.flush()
        return trials_begun(self.config, self.root)

    def make_sources(self) -> dict[str, Source]:
        """Make the teachers and data sets that the trials share, and train no student.

        Returns:
            Them by `source_key`.

        Raises:
            InputError: if another driver is at work on this sweep, or it has other settings.
            DfshieldError: if one cannot be made; what was done stays.
        """
        with Lease(self.root, on_beat=self.log.flush):
            self._claim()
            self.sources = self._made_sources()
        return self.sources

    def _made_sources(self) -> dict[str, Source]:
        return Sources(
            self.config,
            root=self.root,
            layout=self.run_layout,
            executor=self.executor,
            observer=self.observer,
            replan=self.replan,
        ).make(self._known)

    def _run(self) -> None:
        records = trials_begun(self.config, self.root)
        if self.retry_failed:
            records = [record for record in records if record.state != "failed"]
        ended = {record.name for record in records if record.ended}
        left = [trial for trial in self.trials if trial.name not in ended]
        require_references(left)
        self.sources = sources = self._made_sources()
        check_surrogates(self.trials, sources)
        check_measured(self._known, sources)
        self._claim_measuring()
        check_references(left, sources)
        study = Study(
            config=self.config,
            root=self.root.uri,
            trials=left,
            sources=sources,
            records=records,
            replan=self.replan,
        )
        if study.num_trials:
            self._do(study, records)
        self._measure_late(sources)
        teacher = self._measure_teacher()
        records = trials_begun(self.config, self.root)
        write_results(self.root, self.config, records)
        write_report(
            self.root,
            self.config,
            planned=self.trials,
            records=records,
            teacher={result.label: result.accuracy for result in teacher},
        )
        self.log.emit("sweep_done", trials=len(records))

    def _do(self, study: Study, records: list[TrialRecord]) -> None:
        done = sum(record.ended for record in records)
        total = done + study.num_trials
        self.log.emit("sweep_started", trials=done, total=total)
        self.observer.begin("Sweep", total=total, done=done, unit="trials")
        best = BestSoFar(self.config, records)

        def ended(record: TrialRecord) -> None:
            self.log.emit(
                "trial_ended", trial=record.name, state=record.state, reason=record.reason
            )
            if record.state == "failed":
                self.observer.say(f"{record.name} failed: {record.reason}")
            best.add(record)
            self.observer.detail(best.summary())
            self.observer.advance(1.0)

        self.runner.run_trials(study, monitor=RunMonitor(self.log, self.observer), ended=ended)
        self.observer.end()

    def _claim(self) -> None:
        """Bind the folder to this sweep; how it measures is open until it does."""
        identity, record = sweep_identity(self.config, self.run_layout), read_record(self.root)
        if record is not None and measured_nothing(record["identity"]):
            identity["evaluation"] = filled(record["identity"])["evaluation"]
        claim(self.root, identity, key="sweep.name=")

    def _claim_measuring(self) -> None:
        """Bind a sweep that has measured no real image to how it measures now, if it does."""
        record = read_record(self.root)
        if record is not None and measured_nothing(record["identity"]):
            self.root.write_json(
                STAGE_FILE, {**record, "identity": sweep_identity(self.config, self.run_layout)}
            )

    def _measure_late(self, sources: dict[str, Source]) -> None:
        """Measure the students that were trained before the configuration named real images."""
        if all(trial.config.evaluation.data is None for trial in self._known):
            return
        unmeasured = [
            make_trial(self.config, record.values, record.seed)
            for record in trials_begun(self.config, self.root)
            if record.state == "done" and not record.test
        ]
        late = [trial for trial in unmeasured if trial.config.evaluation.data is not None]
        if late:
            self.observer.begin("Measuring", total=len(late), done=0, unit="trials")
        for trial in late:
            source = sources[source_key(trial.config)]
            run_trial(trial, source, root=self.root, executor=self.executor, replan=self.replan)
            self.observer.advance(1.0)
        if late:
            self.observer.end()

    def _measure_teacher(self) -> list[EvaluationResult]:
        """Attack the teacher as the students are: once, under the configuration's own threat."""
        sweep = self.config.sweep
        several = not comparable(sweep) or any(
            key.split(".")[0] in ("teacher", "seed") for key in sweep.parameters
        )
        if self.config.evaluation.data is None or several:
            return []
        evaluation = self.config.evaluation.model_copy(
            update={"models": ("teacher",), "defences": ()}
        )
        run = Run(
            self.config.model_copy(update={"evaluation": evaluation}),
            executor=self.executor,
            observer=self.observer,
            layout=RunLayout(
                self.root.child("teacher"),
                (self.config.seed,),
                elsewhere={"teacher": self.run_layout.teacher},
            ),
        )
        run.work(["evaluate"])
        return run.results[self.config.seed]
