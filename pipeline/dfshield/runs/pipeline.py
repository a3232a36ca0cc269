"""The pipeline: the stages that are asked for, in their order, and what is checked before."""

from collections.abc import Callable, Collection, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dfshield.config import Config, dump_config
from dfshield.evaluation import EvaluationResult
from dfshield.runs.context import RunContext
from dfshield.runs.driver.audit import audit_model
from dfshield.runs.driver.corruptions import read_corruptions
from dfshield.runs.driver.evaluate import subject_of
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.begun_images import as_begun
from dfshield.runs.inputs.evaluation_images import require_evaluation_data
from dfshield.runs.layout import RunLayout
from dfshield.runs.lease import Holder, Lease
from dfshield.runs.names import CONFIG_FILE
from dfshield.runs.records import nothing_yet, read_record
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.stages.stage import Stage
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Observer, SilentObserver
from dfshield.runs.watching.metrics import EventMetrics
from dfshield.runs.watching.tracking import Tracking, openers_of
from dfshield.storage import Folder
from dfshield.trackers import Recorder

if TYPE_CHECKING:
    from dfshield.audit import AuditReport
    from dfshield.results import CorruptionsResult


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
            config=as_begun(config, [layout]),
            layout=layout,
            executor=executor or InProcessExecutor(),
            observer=observer,
            log=EventLog(layout.root, self._heard),
            replan=replan,
        )
        self._returned: dict[str, dict[int, Any]] = {}

    @property
    def results(self) -> dict[int, list[EvaluationResult]]:
        """What the evaluation of each seed came to, where it was done."""
        return self._returned.get("evaluate", {})

    def run(self, stages: Collection[str] = tuple(STAGES)) -> None:
        """Do these stages, all by default.

        Where the configuration names no real images the pipeline goes without an evaluation, and
        its report says so.

        Args:
            stages: their names, in any order.

        Raises:
            InputError: if another driver is at work on this run, a stage is unknown, or only an
                evaluation is asked for that no images are named for.
            DfshieldError: if the job cannot go on; what was committed stays.
        """
        chosen = self._possible(stages)
        with Lease(self.context.layout.root, on_beat=self.context.log.flush) as lease:
            if lease.taken_from is not None:
                self._tell_lost(lease.taken_from)
            self.work(chosen)
            self._write_config()

    def _possible(self, asked: Collection[str]) -> list[str]:
        """Return the stages, in their order, without those that say why they are left out."""
        for name in asked:
            STAGES.find(name)
        names = [name for name in STAGES if name in asked]
        chosen = []
        for name in names:
            reason = STAGES[name].check(self.context.config, names)
            if reason is None:
                chosen.append(name)
            else:
                self.context.observer.say(reason)
        return chosen

    def corruptions(self) -> "dict[int, list[CorruptionsResult]]":
        """Return accuracies on corrupted images by seed; empty where none were asked for.

        Raises:
            InputError: if a result is damaged.
        """
        found = {seed: read_corruptions(self.context, seed) for seed in self.context.layout.seeds}
        return {seed: results for seed, results in found.items() if results}

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
        return audit_model(self.context, seed, subject_of(self.context, name, seed))

    def work(self, stages: Collection[str]) -> None:
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
        self.context.observer.say(
            f"Taking over from a dfshield that has died: {driver.description()}"
        )
        self.context.log.emit(
            "driver_lost",
            host=driver.host,
            process=driver.process,
            since=driver.since,
            heartbeat=driver.heartbeat,
        )

    def _run(self, stages: Collection[str]) -> None:
        config, seeds = self.context.config, self.context.layout.seeds
        chosen = [stage for stage in STAGES.values() if stage.name in stages]
        todo = [s for s in STAGES.values() if s in chosen or s.implied(config)]
        for per_seed, group in groupby(todo, key=lambda stage: stage.per_seed):
            same = list(group)
            if per_seed:
                # Not before: one that is refused must not replace that of what exists.
                self._keep_config()
            for seed in seeds if per_seed else seeds[:1]:
                if per_seed and len(seeds) > 1:
                    self.context.observer.say(f"Seed {seed}")
                for stage in same:
                    self._do(stage, seed)
        self._keep_config()
        self._say_where(chosen[-1])

    def _do(self, stage: Stage, seed: int) -> None:
        context = self.context
        if not stage.wanted(context, seed):
            return
        for need in (STAGES[name] for name in stage.needs):
            folder = context.layout.folder(need.name, seed)
            if need.identity and need.wanted(context, seed) and read_record(folder) is None:
                raise nothing_yet(folder, need.name)
        self._returned.setdefault(stage.name, {})[seed] = stage.run(context, seed)

    def _say_where(self, stage: Stage) -> None:
        """Say where the result of a stage is that was asked for by itself."""
        seeds = self.context.layout.seeds
        for seed in seeds if stage.per_seed else seeds[:1]:
            if stage.result and stage.wanted(self.context, seed):
                folder = self.context.layout.folder(stage.name, seed)
                self.context.observer.say(f"{stage.result}: {folder}")

    def _keep_config(self) -> None:
        """Write the configuration, unless there is one."""
        if not self.context.layout.root.exists(CONFIG_FILE):
            self._write_config()

    def _write_config(self) -> None:
        text = dump_config(self.context.config)
        self.context.layout.root.write_bytes(CONFIG_FILE, text.encode())
