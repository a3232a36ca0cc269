"""Operations of a user's network that give other bytes each time: found as work is done."""

from collections.abc import Iterator
from contextlib import contextmanager

from dfshield.engine.numerics import nondeterministic_operations
from dfshield.runs.execution.engine import Engine
from dfshield.runs.watching.events import Monitor


class Reproducibility:
    """Watches one worker's work and reports each such operation once, to the run's log and user.

    Args:
        engine: how the worker computes; only GPUs have such operations.
        monitor: of the run.
        worker: name of the worker.
    """

    def __init__(self, engine: Engine, monitor: Monitor, worker: str) -> None:
        self._on_gpu = engine.device == "cuda"
        self._monitor = monitor
        self._worker = worker
        self._known: set[str] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the work of a block."""
        if not self._on_gpu:
            yield
            return
        with nondeterministic_operations(self._report):
            yield

    def _report(self, operation: str) -> None:
        if operation not in self._known:
            self._known.add(operation)
            self._monitor.emit("not_reproducible", worker=self._worker, operation=operation)
            self._monitor.say(
                f"{operation} has no deterministic implementation on this GPU: what is made with "
                "it is not byte-reproducible"
            )
