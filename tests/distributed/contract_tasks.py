"""Small tasks and jobs that executors are tested with. Workers import this module."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dfshield.errors import DfshieldError, InputError, OtherDeviceError

ENGINE_THREADS = 1


class UnpicklableError(Exception):
    """An error like those of libraries that nobody has sent between processes."""

    def __init__(self, text):
        super().__init__(text)
        self.callback = lambda: text


@dataclass(frozen=True)
class Square:
    """Squares numbers; leaves a mark per unit and try, and misbehaves where it is told to."""

    marks: Path
    refuses: frozenset[int] = frozenset()
    fails: frozenset[int] = frozenset()
    crashes: frozenset[int] = frozenset()
    crashes_once: frozenset[int] = frozenset()
    raises: frozenset[int] = frozenset()
    raises_once: frozenset[int] = frozenset()
    puts: bool = False
    seconds: float = 0.0

    def prepare(self, worker) -> Callable[[int], int]:
        (self.marks / f"prepared-{os.getpid()}").touch()

        def square(unit: int) -> int:
            tries = len(list(self.marks.glob(f"unit-{unit}-*")))
            (self.marks / f"unit-{unit}-{tries}-{os.getpid()}").touch()
            worker.monitor.advance(0.5)
            time.sleep(self.seconds)
            if unit in self.refuses:
                raise InputError(f"unit {unit} is refused")
            if unit in self.fails:
                raise DfshieldError(f"unit {unit} cannot be done")
            if unit in self.raises or (unit in self.raises_once and tries == 0):
                raise UnpicklableError(f"unit {unit}, try {tries}\nis impossible")
            if unit in self.crashes or (unit in self.crashes_once and tries == 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.puts:
                worker.put(np.full(200_000, unit, dtype=np.int64))
            worker.monitor.advance(0.5)
            return unit * unit

        return square

    def label(self, unit: int) -> str:
        return f"unit {unit}"

    def tries(self, unit: int) -> int:
        return len(list(self.marks.glob(f"unit-{unit}-*")))


@dataclass(frozen=True)
class First:
    """Has the workers agree, as they start, on one's process; others may be refused."""

    refuses_others: bool = False

    def prepare(self, worker) -> Callable[[int], tuple[str, str]]:
        own = str(os.getpid())
        agreed = worker.first("process", own)
        worker.monitor.emit("agreed", own=own)
        if self.refuses_others and own != agreed:
            raise OtherDeviceError("an A100, but an H100 began")

        def both(unit: int) -> tuple[str, str]:
            time.sleep(0.3)
            return own, agreed

        return both

    def label(self, unit: int) -> str:
        return f"unit {unit}"


@dataclass(frozen=True)
class BadStart:
    """A task that cannot be prepared."""

    error: Exception

    def prepare(self, worker):
        raise self.error

    def label(self, unit: int) -> str:
        return f"unit {unit}"


@dataclass(frozen=True)
class Device:
    """A job of one worker."""

    def run(self, worker) -> str:
        worker.monitor.say("at work")
        return str(worker.device)


@dataclass(frozen=True)
class TwoKinds:
    """A job of a group whose last worker computes other numbers than the first ones."""

    on_gpu: bool
    max_workers: int = 2

    def run(self, worker) -> None:
        from dfshield.runs.work.training_canary import TrainingCanary, agreed_canary

        name = "H100" if worker.group.rank == worker.group.size - 1 else "A100"
        agreed = agreed_canary(TrainingCanary(name, f"an {name}", self.on_gpu), None, worker)
        worker.monitor.emit("trained", canary=agreed)


@dataclass(frozen=True)
class Sum:
    """A job of a group: adds up ranks, reports, writes what rank 0 found."""

    path: Path
    fails: str = ""
    raises: int = 0
    crashes_once: bool = False
    waits_to_be_stopped: bool = False
    refs: dict[int, Any] = field(default_factory=dict)
    max_workers: int = 8

    def run(self, worker) -> None:
        import torch

        group = worker.group
        if self.crashes_once and group.rank == group.size - 1 and not self.path.exists():
            self.path.touch()
            os._exit(1)
        if (
            group.rank == group.size - 1
            and len(list(self.path.parent.glob("start-*"))) < self.raises
        ):
            (self.path.parent / f"start-{os.getpid()}").touch()
            raise UnpicklableError("no such thing")
        if self.fails and group.rank == group.size - 1:
            raise DfshieldError(self.fails)
        total = torch.tensor([group.rank + 1.0], dtype=torch.float64)
        group.all_reduce(total)
        ranks = group.all_gather(group.rank)
        worker.report({"total": total.item()})
        while self.waits_to_be_stopped:
            worker.monitor.emit("waiting")
            if any(group.all_gather(worker.stop_requested())):
                break
            time.sleep(0.05)
        firsts = {key: int(worker.get(ref)[0]) for key, ref in self.refs.items()}
        if group.rank == 0:
            worker.monitor.emit("added", total=total.item())
            self.path.write_text(f"{total.item()} {ranks} {firsts}")
