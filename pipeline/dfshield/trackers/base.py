"""The contract of the trackers: where the metrics of a run go while it works."""

import importlib.util
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from dfshield.errors import InputError
from dfshield.families import Variant
from dfshield.storage import Folder

ID_FILE = "trackers.json"
"""Holds the random id under which MLflow and Weights & Biases find a run again."""

HOME = "dfshield"
"""The experiment or project of a run, unless an option or the tracker's environment names one."""


@dataclass(frozen=True)
class Point:
    """Metrics that stand at one step.

    Attributes:
        group: what they are about: ``synthesis``, ``train``, ``holdout`` or ``evaluation``; with
            several seeds ``seed-<n>/`` stands before it.
        metrics: values by name, such as ``loss`` or ``student/PGD-20``.
        step: how many images, updates or epochs had been done; 0 for an evaluation.
    """

    group: str
    metrics: Mapping[str, float]
    step: int

    def named(self) -> dict[str, float]:
        """Return the values by their full names, such as ``train/loss``."""
        return {f"{self.group}/{name}": value for name, value in self.metrics.items()}


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker may know of a run.

    Attributes:
        name: of the run.
        folder: of the run.
        settings: every key of its configuration with its value as text, without credentials.
    """

    name: str
    folder: Folder
    settings: Mapping[str, str]

    def id(self) -> str:
        """Return the run's random id, which its folder keeps from the first call on."""
        if not self.folder.exists(ID_FILE):
            self.folder.write_json(ID_FILE, {"id": uuid.uuid4().hex})
        return str(self.folder.read_json(ID_FILE)["id"])


@runtime_checkable
class Recorder(Protocol):
    """Takes the metrics of one run: into files, to a server, into gauges.

    All methods are called from one thread of the recorder's own, so they may take their time; what
    they raise costs the run nothing.

    Attributes:
        flush_every: seconds between two calls of `flush`, whether there is a new value or not.
    """

    flush_every: float

    def log(self, point: Point) -> None:
        """Take values; a step may come again, with equal values, when a run is resumed."""

    def flush(self) -> None:
        """Write or send what was taken since the last time."""

    def close(self, *, failed: bool) -> None:
        """Write or send the rest; ``failed`` says whether the run ended before it was done."""


class Tracker(Variant, ABC):
    """A kind of place for metrics, with its options; `open` begins to record one run.

    A subclass imports its package in `open`, so that its options can be read without it.

    Attributes:
        package: what has to be installed beside dfshield, or None.
    """

    package: ClassVar[str | None] = None

    @abstractmethod
    def open(self, run: TrackedRun) -> Recorder:
        """Return what records a run; whatever it raises costs the run nothing."""

    def require_package(self) -> None:
        """Check that the package is installed.

        Raises:
            InputError: if it is not.
        """
        if self.package is None:
            return
        # A folder of this name, as W&B makes one, is found too, but has no file.
        found = importlib.util.find_spec(self.package)
        if found is None or found.origin is None:
            package = self.package
            raise InputError(f"trackers: {package} is not installed: pip install {package}")
