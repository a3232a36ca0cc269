"""What every stage is handed."""

from dataclasses import dataclass, field

from dfshield.config import Config
from dfshield.runs.execution.protocol import Executor
from dfshield.runs.layout import RunLayout
from dfshield.runs.watching.event_log import EventLog
from dfshield.runs.watching.events import Monitor, Observer, RunMonitor


@dataclass(frozen=True)
class RunContext:
    """A run: what is wanted, where it lies, who works, who watches.

    Attributes:
        refs: by seed, object references of the parts of the surrogate data set that no file holds
            (sink ``object_store``), by the path of the part.
        replan: whether interrupted work may go on under another engine.
    """

    config: Config
    layout: RunLayout
    executor: Executor
    observer: Observer
    log: EventLog
    refs: dict[int, dict[str, object]] = field(default_factory=dict)
    replan: bool = False

    @property
    def monitor(self) -> Monitor:
        """Log and observer behind one door."""
        return RunMonitor(self.log, self.observer)
