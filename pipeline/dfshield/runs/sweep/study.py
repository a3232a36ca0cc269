"""What a sweep hands to whoever runs its trials, and how that goes on in one process."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import pyarrow as pa

from dfshield.brief import Brief
from dfshield.config import Config
from dfshield.errors import InputError, UnfitDeviceError
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.sweep.plan import Trial, source_key, training_seeds
from dfshield.runs.sweep.record import TrialRecord
from dfshield.runs.sweep.trial import Source, run_trial
from dfshield.runs.watching.events import Monitor
from dfshield.storage import Folder, SurrogateDataset, part_table

_SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, repr=False)
class Study(Brief):
    """The trials of a sweep that are still to be done.

    Attributes:
        config: of the sweep.
        root: URI of its folder.
        trials: to be done, in order; empty where a sampler decides.
        sources: teacher and images of the trials, by `source_key`.
        records: what earlier commands have begun or done.
        replan: go on with begun trials under another engine.
    """

    config: Config
    root: str
    trials: Sequence[Trial]
    sources: Mapping[str, Source]
    records: Sequence[TrialRecord]
    replan: bool = False

    @property
    def num_trials(self) -> int:
        """How many are still to be done."""
        sweep = self.config.sweep
        if sweep.search in ("grid", "random"):
            return len(self.trials)
        assert sweep.max_trials is not None
        ended = sum(record.ended for record in self.records)
        return max(0, sweep.max_trials * len(training_seeds(self.config)) - ended)

    def deadline(self) -> float:
        """Return the moment of ``time.monotonic()`` when its hours are over, were it begun now."""
        return time.monotonic() + _SECONDS_AN_HOUR * (self.config.sweep.max_hours or math.inf)


Ended = Callable[[TrialRecord], None]


@runtime_checkable
class TrialRunner(Protocol):
    """Runs the trials of a sweep somewhere."""

    def run_trials(self, study: Study, *, monitor: Monitor, ended: Ended) -> None:
        """Do every trial, each recorded in its folder, and tell of each that has ended.

        Raises:
            InputError: if this cannot be done here.
            KeyboardInterrupt: if it was stopped; begun trials go on with the next command.
        """
        ...


class InProcessRunner:
    """Runs one trial after the other in this process, without Ray.

    Args:
        executor: who works.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def run_trials(self, study: Study, *, monitor: Monitor, ended: Ended) -> None:
        """Do the trials in order; see `TrialRunner`."""
        sweep = study.config.sweep
        for key, value, plain in (
            ("search", sweep.search, sweep.search in ("grid", "random")),
            ("scheduler", sweep.scheduler, sweep.scheduler == "none"),
            ("workers_per_trial", sweep.workers_per_trial, sweep.workers_per_trial == 1),
        ):
            if not plain:
                raise InputError(
                    f"sweep.{key}: {value} needs Ray, which cluster.address=none leaves out"
                )
        deadline = study.deadline()
        sources = {
            key: in_memory(source, lambda table: table) for key, source in study.sources.items()
        }
        for trial in study.trials:
            if time.monotonic() >= deadline:
                monitor.say("sweep.max_hours are over: the next command goes on")
                return
            source = sources[source_key(trial.config)]
            root = Folder.at(study.root)
            try:
                record = run_trial(
                    trial, source, root=root, executor=self._executor, replan=study.replan
                )
            except UnfitDeviceError as error:
                monitor.say(f"{trial.name}: {error}; the next command goes on with it")
                continue
            ended(record)


def in_memory(source: Source, put: Callable[[pa.Table], object]) -> Source:
    """Return the source with all parts read and checked, so that no trial has to read files.

    Args:
        source: teacher and images; what is in memory already stays as it is, as does one without
            images.
        put: keeps a table, and returns what trials are handed for it.

    Raises:
        DfshieldError: if a part is missing or broken.
    """
    if source.refs or source.data is None:
        return source
    data = SurrogateDataset.open(source.data)
    manifest = data.manifest
    refs = {part.path: put(part_table(manifest, part, data.read(part))) for part in manifest.parts}
    return replace(source, refs=refs)
