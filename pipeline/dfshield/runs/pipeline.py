"""The pipeline: which stages a command means, in which order, and what is checked before."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dfshield.config import Config, dump_config
from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult
from dfshield.runs.context import RunContext
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.layout import CONFIG_FILE, RunLayout
from dfshield.runs.lease import Holder, Lease
from dfshield.runs.stages.audit import audit_stage
from dfshield.runs.stages.evaluate import evaluation_stage, subject_of
from dfshield.runs.stages.report import PAGE, report_stage
from dfshield.runs.stages.synthesize import synthesis_stage
from dfshield.runs.stages.teacher import teacher_stage
from dfshield.runs.stages.train import student_is_done, training_stage
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer, SilentObserver
from dfshield.runs.watching.metrics import EventMetrics
from dfshield.runs.watching.tracking import Tracking, openers_of
from dfshield.storage import Folder
from dfshield.trackers import Recorder

if TYPE_CHECKING:
    from dfshield.audit import AuditReport


class StageName(StrEnum):
    """The stages of the pipeline, in their order."""

    TEACHER = "teacher"
    SYNTHESIZE = "synthesize"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REPORT = "report"


class Run:
    """A run of the pipeline: each stage continues where it stopped and does nothing when done.

    Args:
        config: what is wanted.
        executor: who works; None works in this process.
        observer: who watches; None is silent.
        replan: let interrupted work go on under another engine.
        trackers: what opens further trackers than those of the configuration, by their names.
        layout: where all of it lies; None is where the configuration says.
        hear: called with the name and the fields of every event.

    Raises:
        InputError: for what can be known to be wrong before any work is done.
    """

    def __init__(
        self,
        config: Config,
        *,
        executor: Executor | None = None,
        observer: Observer | None = None,
        replan: bool = False,
        trackers: Mapping[str, Callable[[], Recorder]] | None = None,
        layout: RunLayout | None = None,
        hear: Callable[[str, Mapping[str, Any]], None] = lambda *_: None,
    ) -> None:
        attacks_of(config)
        layout = layout or RunLayout.of(config)
        observer = observer or SilentObserver()
        openers = {**openers_of(config, layout.root), **(trackers or {})}
        self._tracking = Tracking(openers, EventMetrics(layout.seeds), observer.say)
        self._hear = hear
        self.context = RunContext(
            config=config,
            layout=layout,
            executor=executor or InProcessExecutor(),
            observer=observer,
            log=EventLog(layout.root, self._heard),
        )
        self.replan = replan
        self.results: dict[int, list[EvaluationResult]] = {}

    def run(self, stages: Sequence[StageName] = tuple(StageName)) -> None:
        """Do these stages, all by default.

        Where the configuration names no real images the pipeline goes without an evaluation, and
        its report says so.

        Raises:
            InputError: if another driver is at work on this run, or only an evaluation is asked
                for that no images are named for.
            DfshieldError: if the job cannot go on; what was committed stays.
        """
        if StageName.EVALUATE in stages:
            stages = self._measurable(stages)
        if self._in_memory and StageName.SYNTHESIZE in stages and StageName.TRAIN not in stages:
            raise InputError(
                "storage.sink: object_store keeps surrogate images only while a command lasts: "
                "use `dfshield run`, which trains on them, or storage.sink=parquet"
            )
        with Lease(self.context.layout.root, on_beat=self.context.log.flush) as lease:
            if lease.taken_from is not None:
                self._tell_lost(lease.taken_from)
            self.work(stages)
            self._write_config()

    def _measurable(self, stages: Sequence[StageName]) -> Sequence[StageName]:
        """Return the stages without the evaluation, if others can do without its images."""
        others = [stage for stage in stages if stage != StageName.EVALUATE]
        if others and self.context.config.evaluation.data is None:
            self.context.observer.say("evaluation.data names no images: no real image is measured")
            return others
        require_evaluation_data(self.context.config)
        return stages

    def audit(self) -> "list[tuple[AuditReport, Folder]]":
        """Audit the model that the configuration names, once for every seed of the run.

        Returns:
            Reports, and the folder-like place beside whose name each one lies.

        Raises:
            InputError: if there is no such model yet, or another driver is at work on this run.
        """
        require_evaluation_data(self.context.config)
        with Lease(self.context.layout.root, on_beat=self.context.log.flush), self._tracking:
            try:
                return [self._audited(seed) for seed in self.context.layout.seeds]
            finally:
                self.context.log.flush()

    def _audited(self, seed: int) -> "tuple[AuditReport, Folder]":
        name = self.context.config.audit.model
        return audit_stage(self.context, seed, subject_of(self.context, name, seed))

    def work(self, stages: Sequence[StageName]) -> None:
        """Do these stages without a lease: for whoever sees to it that nobody else does.

        Raises:
            DfshieldError: if the job cannot go on; what was committed stays.
        """
        log = self.context.log
        with self._tracking:
            try:
                self._run(stages)
            except KeyboardInterrupt:
                log.emit("interrupted")
                raise
            finally:
                log.flush()

    def _heard(self, event: str, fields: Mapping[str, Any]) -> None:
        self._tracking.hear(event, fields)
        self._hear(event, fields)

    def _tell_lost(self, driver: Holder) -> None:
        self.context.observer.say(f"Taking over from a dfshield that has died: {driver.told()}")
        self.context.log.emit(
            "driver_lost",
            host=driver.host,
            process=driver.process,
            since=driver.since,
            heartbeat=driver.heartbeat,
        )

    def _run(self, stages: Sequence[StageName]) -> None:
        context = self.context
        if StageName.TEACHER in stages or context.config.teacher.train is None:
            teacher_stage(context)
        # A configuration that is refused below must not replace the one that made what exists.
        if not context.layout.root.exists(CONFIG_FILE):
            self._write_config()
        for seed in context.layout.seeds:
            if len(context.layout.seeds) > 1 and set(stages) - {StageName.REPORT}:
                context.observer.say(f"Seed {seed}")
            if StageName.SYNTHESIZE in stages and self._needs_images(seed):
                synthesis_stage(context, seed, replan=self.replan)
            if StageName.TRAIN in stages:
                training_stage(context, seed, replan=self.replan)
            if StageName.EVALUATE in stages:
                self.results[seed] = evaluation_stage(context, seed)
        if StageName.REPORT in stages:
            report_stage(context)
            context.observer.say(f"Report: {context.layout.report}/{PAGE}")
        self._say_where(stages[-1])

    def _say_where(self, stage: StageName) -> None:
        """Say where the result of a stage is that was asked for by itself."""
        layout = self.context.layout
        if stage is StageName.TEACHER:
            self.context.observer.say(f"Teacher: {layout.teacher}")
        for seed in layout.seeds:
            if stage is StageName.SYNTHESIZE and self._needs_images(seed):
                self.context.observer.say(f"Surrogate images: {layout.synthetic(seed)}")
            if stage is StageName.TRAIN:
                self.context.observer.say(f"Student: {layout.student(seed)}")

    @property
    def _in_memory(self) -> bool:
        return self.context.config.storage.sink == "object_store"

    def _needs_images(self, seed: int) -> bool:
        if self.context.config.training.data is not None:
            return False
        # Images that no file holds are made for the training alone.
        return not (self._in_memory and student_is_done(self.context, seed))

    def _write_config(self) -> None:
        text = dump_config(self.context.config)
        self.context.layout.root.write_bytes(CONFIG_FILE, text.encode())
