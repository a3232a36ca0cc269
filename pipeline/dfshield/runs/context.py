"""What every stage is handed."""

from dataclasses import dataclass

from dfshield.config import Config
from dfshield.runs.events import EventLog, Observer
from dfshield.runs.executor import Executor
from dfshield.runs.layout import RunLayout


@dataclass(frozen=True)
class RunContext:
    """A run: what is wanted, where it lies, who works, who watches."""

    config: Config
    layout: RunLayout
    executor: Executor
    observer: Observer
    log: EventLog
