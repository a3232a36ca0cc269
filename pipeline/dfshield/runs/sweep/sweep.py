"""A sweep: one surrogate data set, many students, and what can be learnt from all of them."""

from collections.abc import Mapping
from dataclasses import replace

from dfshield.config import Config, config_from, dump_config, expand, parse_yaml
from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult
from dfshield.runs.driver.training_source import images_of_training
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.identity import filled
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.classifier_folder import describe
from dfshield.runs.inputs.evaluation_images import real_images, require_evaluation_data
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Lease
from dfshield.runs.names import CONFIG_FILE, STAGE_FILE
from dfshield.runs.pipeline import Run
from dfshield.runs.records import claim, read_record
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.sweep.identity import measured_nothing, sweep_identity
from dfshield.runs.sweep.metrics import BestSoFar, check_metric
from dfshield.runs.sweep.plan import Trial, listed_trials, make_trial, source_key
from dfshield.runs.sweep.record import TrialRecord, read_trials
from dfshield.runs.sweep.reporting import write_report
from dfshield.runs.sweep.results import write_results
from dfshield.runs.sweep.status import SWEEP_FILE
from dfshield.runs.sweep.study import Study, TrialRunner
from dfshield.runs.sweep.trial import Source, run_trial
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer, RunMonitor, SilentObserver
from dfshield.storage import Folder, SurrogateDataset

SWEEPS = "sweeps"
SETS = "sets"
"""In the folder of a sweep: data sets that are not the run's own."""


class Sweep:
    """The trials of a configuration's sweep section: what is done is not done again.

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
        for trial in self.trials or [make_trial(config, {}, None)]:
            attacks_of(trial.config)
        if config.evaluation.data is not None:
            require_evaluation_data(config)
        elif config.sweep.select_on == "test":
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
        self.root = self.run_layout.root.child(SWEEPS, config.sweep.name)
        self.log = EventLog(self.root)

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
        return read_trials(self.root)

    def _run(self) -> None:
        sources = self._sources()
        self._check_images(sources)
        self._check_real_images(sources)
        self._claim_measuring()
        records = read_trials(self.root)
        if self.retry_failed:
            records = [record for record in records if record.state != "failed"]
        ended = {record.name for record in records if record.ended}
        study = Study(
            config=self.config,
            root=self.root.uri,
            trials=[trial for trial in self.trials if trial.name not in ended],
            sources=sources,
            records=records,
            replan=self.replan,
        )
        if study.num_trials:
            self._do(study, records)
        self._measure_late(sources)
        teacher = self._measure_teacher()
        records = read_trials(self.root)
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

    def _sources(self) -> dict[str, Source]:
        """Make every distinct teacher and data set, once."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials or [make_trial(self.config, {}, None)]:
            groups.setdefault(source_key(trial.config), []).append(trial)
        return {key: self._source(key, trials) for key, trials in groups.items()}

    def _source(self, key: str, trials: list[Trial]) -> Source:
        first = trials[0].config
        sizes = {
            name: max(getattr(trial.config.synthesis, name) for trial in trials)
            for name in ("num_images", "num_holdout")
        }
        if self.config.sweep.search.startswith("tpe"):
            axis = self.config.sweep.parameters.get("synthesis.num_images")
            sizes["num_images"] = max([sizes["num_images"], *(axis.ends if axis else ())])
        own = key == source_key(self.config)
        config = first.model_copy(
            update={
                "name": self.config.name if own else f"{self.config.name}-{key}",
                "synthesis": first.synthesis.model_copy(update=sizes),
                "training": self.config.training,
            }
        )
        run = Run(
            config,
            executor=self.executor,
            observer=self.observer,
            replan=self.replan,
            layout=self.run_layout if own else self._layout(key, config),
        )
        layout = run.context.layout
        with Lease(layout.root, on_beat=run.context.log.flush):
            run.work([stage.name for stage in STAGES.values() if stage.in_sweep == "shared"])
        data = layout.synthetic(config.seed)
        if config.training.data is not None:
            data = SurrogateDataset.open(expand(config.training.data, key="training.data")).folder
        return Source(layout.teacher.uri, data.uri, run.context.refs.get(config.seed, {}))

    def _layout(self, key: str, config: Config) -> RunLayout:
        """Return where a data set lies that is not the run's own; mostly its teacher is."""
        same = config.teacher == self.config.teacher and config.seed == self.config.seed
        layout = RunLayout(self._set(key), (config.seed,))
        if not same:
            return layout
        own = Run(self.config, executor=self.executor, observer=self.observer)
        with Lease(self.run_layout.root):
            own.work(["teacher"])
        return replace(layout, elsewhere={"teacher": self.run_layout.teacher})

    def _set(self, key: str) -> Folder:
        """Return the folder of a data set, which an earlier release may have named otherwise."""
        sets = self.root.child(SETS)
        known = [] if sets.exists(key) else sets.list()
        for name, file in (path.split("/", 1) for path in known):
            if file == CONFIG_FILE:
                where = f"{sets}/{name}/{file}"
                tree = parse_yaml(sets.read_bytes(f"{name}/{file}").decode(), where=where)
                if source_key(config_from(tree, where=where)) == key:
                    return sets.child(name)
        return sets.child(key)

    def _check_images(self, sources: Mapping[str, Source]) -> None:
        """Refuse now what a trial would: a K larger than an epoch, where the data set tells."""
        sets = {key: SurrogateDataset.open(source.data) for key, source in sources.items()}
        for trial in self.trials:
            images_of_training(trial.config, sets[source_key(trial.config)])

    def _check_real_images(self, sources: Mapping[str, Source]) -> None:
        """Refuse test images that do not fit, before any student is trained for them."""
        if self.config.evaluation.data is None:
            return
        for teacher in {source.teacher for source in sources.values()}:
            takes = describe(Folder.at(teacher)).architecture
            real_images(self.config, takes, num_images=self.config.evaluation.num_images)

    def _measure_late(self, sources: Mapping[str, Source]) -> None:
        """Measure the students that were trained before the configuration named real images."""
        if self.config.evaluation.data is None:
            return
        late = [r for r in read_trials(self.root) if r.state == "done" and not r.test]
        if late:
            self.observer.begin("Measuring", total=len(late), done=0, unit="trials")
        for record in late:
            trial = make_trial(self.config, record.values, record.seed)
            source = sources[source_key(trial.config)]
            run_trial(trial, source, root=self.root, executor=self.executor, replan=self.replan)
            self.observer.advance(1.0)
        if late:
            self.observer.end()

    def _measure_teacher(self) -> list[EvaluationResult]:
        """Attack the teacher as the students are: once, under the configuration's own threat."""
        several = any(
            key.split(".")[0] in ("teacher", "seed") for key in self.config.sweep.parameters
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
