"""The engine trial: ways to compute the same work, compared with the plain one on this machine."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

import torch

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial_checks import CHECKS, Answering, Expected, Kind, Way, too_costly
from dfshield.errors import one_line

LONG = 600.0
"""Seconds of plain work in all from which a trial, minutes of compiling, may pay."""
MOST_STEPS, LEAST_STEPS, STEPS_SHARE = 100, 4, 0.01
FEWEST = 100
"""Iterations of the work below which a trial, which takes some thirty, would be a large part."""
TURNS = 3

Verdict = Literal["chosen", "passed", "failed"]


@dataclass(frozen=True)
class Rung:
    """A faster way to compute the work.

    Attributes:
        name: for people.
        engine: the fields of the engine that stand for it.
        kind: what its numbers are held to; see `CHECKS`.
        make: returns it, not yet begun.
    """

    name: str
    engine: Mapping[str, Any]
    kind: Kind
    make: Callable[[], Way]

    @classmethod
    def of(
        cls,
        acceleration: Acceleration,
        make: Callable[[Acceleration], Way],
        *,
        together: int | None = None,
    ) -> "Rung":
        """Return the rung of an acceleration, with so many batches to a pass if it is given."""
        precision, compiled = acceleration.precision, acceleration.compiled
        name = f"{'compiled ' if compiled else ''}{precision}"
        engine: dict[str, Any] = {"precision": precision, "compiled": compiled}
        kind: Kind = "float32" if precision == "float32" else "rounded"
        if acceleration.graphed:  # the plain kernels, if the plain way has passes of this size
            name, engine["graphed"] = f"{name} in a CUDA graph", True
            kind = "same" if together is None else kind
        if together is not None:
            name, engine["batches_per_pass"] = f"{name}, {together} batches a pass", together
        return cls(name=name, engine=engine, kind=kind, make=lambda: make(acceleration))


@dataclass(frozen=True)
class Ways:
    """The ways in which some work can be computed.

    Attributes:
        plain: the plain one.
        exact: the same in float64, whose gradient is the one that errors are measured against.
        faster: returns the one with an acceleration, not yet begun.
    """

    plain: Way
    exact: Answering
    faster: Callable[[Acceleration], Way]


@dataclass(frozen=True)
class RungReport:
    """What was found of a rung.

    Attributes:
        name: its name.
        verdict: ``failed``, ``passed`` or, of those that passed the one to take, ``chosen``.
        reason: why it failed, with figures; empty otherwise.
        seconds_to_begin: what building and compiling it took.
        seconds: of an iteration.
        faster: how many times as fast as the plain way it is, measured by turns.
        peak_bytes: the most memory it held, where that is known.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    seconds_to_begin: float = 0.0
    seconds: float = 0.0
    faster: float = 0.0
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Trial:
    """The verdict of a trial, with its figures.

    Attributes:
        engine: the fields of the engine to take; none for the plain one.
        iterations: of the work, for one worker.
        plain_seconds: of a plain iteration.
        rungs: what was found of each; empty where the work is too short for a trial.
    """

    engine: Mapping[str, Any]
    iterations: float
    plain_seconds: float
    rungs: tuple[RungReport, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return it as a value that ``json.dumps`` takes."""
        return {**asdict(self), "engine": dict(self.engine), "rungs": list(map(asdict, self.rungs))}

    @property
    def chosen(self) -> str:
        """The way to take, in words."""
        for rung in self.rungs:
            if rung.verdict == "chosen":
                return f"{rung.name} is taken, {rung.faster:.1f} times as fast as the plain way"
        return "the plain way is taken"

    @property
    def failures(self) -> list[str]:
        """One line for each rung that failed."""
        return [f"{r.name}: {r.reason}" for r in self.rungs if r.verdict == "failed"]


def run_trial(
    ways: Ways,
    rungs: Sequence[Rung],
    *,
    iterations: float,
    most_steps: int = MOST_STEPS,
    memory: int | None = None,
    long: float = LONG,
    say: Callable[[str], object] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Compare faster ways with the plain one, and choose the one that ends the work first.

    A rung passes if its numbers are those of the plain way, up to what its kind allows, at the
    beginning and after some plain iterations; if it gives the same bytes twice, and going on from a
    state; if it fits into memory, is 1.3 times as fast, and saves three times what it takes to
    begin.

    Args:
        ways: the work; ``faster`` is not asked.
        rungs: faster ways, each of which is begun and let go before the next.
        iterations: of the work, for one worker.
        most_steps: plain iterations, a hundredth of the work if that is less, after which the ways
            are compared; and once more as many.
        memory: bytes that a worker may hold; None where nobody knows.
        long: seconds of plain work from which rungs are tried; at 0 they are tried in any case.
        say: called with a line before a rung is tried.
        clock: seconds, rising.

    Raises:
        torch.AcceleratorError: if a rung breaks this process's GPU.
    """
    plain = ways.plain
    plain.begin()
    first = plain.run(None, 1)
    seconds = min(_seconds(plain, first.state, 1, clock) for _ in range(2))
    trial = Trial({}, iterations, seconds)
    too_short = seconds * iterations < long or iterations < FEWEST
    if (long and too_short) or not rungs:
        return trial
    steps = max(LEAST_STEPS, min(most_steps, int(STEPS_SHARE * iterations)))
    try:
        expected = expected_of(ways, steps)
    except torch.AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001  as a user's network fails in float64
        reason = f"there is nothing to compare with: {_told(error)}"
        return replace(trial, rungs=tuple(RungReport(r.name, "failed", reason) for r in rungs))
    reports = []
    for rung in rungs:
        say(f"Engine trial: {rung.name}, beside the plain way")
        report, of_plain = _tried(rung, plain, expected, trial, memory, clock)
        reports.append(report)
        seconds = min(seconds, of_plain)
    return _decided(replace(trial, plain_seconds=seconds, rungs=tuple(reports)), rungs)


def _decided(trial: Trial, rungs: Sequence[Rung]) -> Trial:
    """Return the trial with the rung that ends the work first, of those that passed."""
    passed = [r for r in trial.rungs if r.verdict == "passed"]
    if not passed:
        return trial
    best = min(passed, key=lambda r: r.seconds_to_begin + r.seconds * trial.iterations)
    engine = next(rung.engine for rung in rungs if rung.name == best.name)
    reports = (replace(r, verdict="chosen") if r is best else r for r in trial.rungs)
    return replace(trial, engine=engine, rungs=tuple(reports))


def expected_of(ways: Ways, steps: int) -> Expected:
    """Return what faster ways are held to, after so many plain iterations; plain has begun."""
    plain, exact = ways.plain, ways.exact
    later = plain.run(None, steps).state
    states = (None, later)
    exact.begin()
    return Expected(
        states=states,
        answers=tuple(plain.answer(state) for state in states),
        exact=tuple(exact.answer(state) for state in states),
        end=plain.run(later, steps),
        steps=steps,
    )


def _tried(
    rung: Rung,
    plain: Way,
    expected: Expected,
    trial: Trial,
    memory: int | None,
    clock: Callable[[], float],
) -> tuple[RungReport, float]:
    """Return what is found of a rung, and the seconds of a plain iteration beside it."""
    begin, seconds, of_plain, peak = 0.0, 0.0, trial.plain_seconds, None
    try:
        way = rung.make()
        start = clock()
        way.begin()
        begin = clock() - start
        reason = next(_problems(way, rung.kind, expected), "")
        if not reason:
            seconds, of_plain = _by_turns(way, plain, expected, clock)
            peak = way.peak_bytes()
            reason = too_costly(begin, seconds, of_plain, trial.iterations, peak, memory)
    except torch.AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001  compilers fail with errors of every kind
        reason = _told(error)
    verdict: Verdict = "failed" if reason else "passed"
    faster = of_plain / seconds if seconds else 0.0
    return RungReport(rung.name, verdict, reason, begin, seconds, faster, peak), of_plain


def _told(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return "out of memory"
    return one_line(error)


def _problems(way: Way, kind: Kind, expected: Expected) -> Iterator[str]:
    for check in CHECKS:
        yield from check(way, kind, expected)


def _by_turns(
    way: Way, plain: Way, expected: Expected, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return seconds of an iteration of both, by turns: a machine is not always equally fast."""
    steps, state = max(1, expected.steps // 20), expected.states[1]
    pairs = [
        (_seconds(way, state, steps, clock), _seconds(plain, state, steps, clock))
        for _ in range(TURNS)
    ]
    of_plain = median(p for _, p in pairs)
    return of_plain / median(p / w for w, p in pairs), of_plain


def _seconds(way: Way, state: object, steps: int, clock: Callable[[], float]) -> float:
    start = clock()
    way.run(state, steps)
    return max((clock() - start) / steps, 1e-9)


def format_iteration(seconds: float) -> str:
    """Return the time of an iteration as text: ``"12.3 ms"`` or ``"1.2 s"``."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"
