"""The engine trial: ways to compute the same work, compared with the plain one on this machine."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

import torch

from dfshield.engine.trial_checks import CHECKS, Expected, Kind, Way
from dfshield.errors import one_line

LONG = 600.0
"""Seconds of plain work in all from which a trial, minutes of compiling, may pay."""
FASTER = 1.3
"""How many times as fast as the plain way a rung has to be."""
SAVES = 3.0
"""How many times the seconds to begin with it a rung has to save in all."""
MEMORY_SHARE = 0.8
"""Of a worker's share of the memory, the most that a rung may hold."""
MOST_STEPS, LEAST_STEPS, STEPS_SHARE = 100, 4, 0.01
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


@dataclass(frozen=True)
class RungReport:
    """What was found of a rung.

    Attributes:
        name: its name.
        verdict: ``failed``, ``passed`` or, of those that passed the one to take, ``chosen``.
        reason: why it failed, with figures; empty otherwise.
        seconds_to_begin: what building and compiling it took.
        seconds: of an iteration.
        peak_bytes: the most memory it held, where that is known.
    """

    name: str
    verdict: Verdict
    reason: str = ""
    seconds_to_begin: float = 0.0
    seconds: float = 0.0
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
    def failures(self) -> list[str]:
        """One line for each rung that failed."""
        return [f"{r.name}: {r.reason}" for r in self.rungs if r.verdict == "failed"]


def run_trial(
    plain: Way,
    exact: Way,
    rungs: Sequence[Rung],
    *,
    iterations: float,
    memory: int | None = None,
    long: float = LONG,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Compare faster ways with the plain one, and choose the one that ends the work first.

    A rung passes if its numbers are those of the plain way, up to what its kind allows, at the
    beginning and after some plain iterations; if it gives the same bytes twice, and going on from a
    state; if it fits into memory, is 1.3 times as fast, and saves three times what it takes to
    begin.

    Args:
        plain: the plain way.
        exact: the plain way in float64, whose gradient errors are measured against.
        rungs: faster ways, each of which is begun and let go before the next.
        iterations: of the work, for one worker.
        memory: bytes that a worker may hold; None where nobody knows.
        long: seconds of plain work from which rungs are tried.
        clock: seconds, rising.

    Raises:
        torch.AcceleratorError: if a rung breaks this process's GPU.
    """
    plain.begin()
    first = plain.run(None, 1)
    seconds = min(_seconds(plain, first.state, 1, clock) for _ in range(2))
    trial = Trial({}, iterations, seconds)
    if seconds * iterations < long or not rungs:
        return trial
    steps = max(LEAST_STEPS, min(MOST_STEPS, int(STEPS_SHARE * iterations)))
    expected = _expected(plain, exact, steps)
    reports = []
    for rung in rungs:
        report, of_plain = _tried(rung, plain, expected, trial, memory, clock)
        reports.append(report)
        seconds = min(seconds, of_plain)
    passed = [r for r in reports if r.verdict == "passed"]
    if not passed:
        return replace(trial, plain_seconds=seconds, rungs=tuple(reports))
    best = min(passed, key=lambda r: r.seconds_to_begin + r.seconds * iterations)
    engine = next(rung.engine for rung in rungs if rung.name == best.name)
    chosen = tuple(replace(r, verdict="chosen") if r is best else r for r in reports)
    return replace(trial, engine=engine, plain_seconds=seconds, rungs=chosen)


def _expected(plain: Way, exact: Way, steps: int) -> Expected:
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
            reason = _too_costly(begin, seconds, of_plain, trial.iterations, peak, memory)
    except torch.OutOfMemoryError:
        reason = "out of memory"
        torch.cuda.empty_cache()
    except torch.AcceleratorError:
        raise
    except Exception as error:  # noqa: BLE001  compilers fail with errors of every kind
        reason = one_line(error)
    verdict: Verdict = "failed" if reason else "passed"
    return RungReport(rung.name, verdict, reason, begin, seconds, peak), of_plain


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


def _too_costly(
    begin: float,
    seconds: float,
    of_plain: float,
    iterations: float,
    peak: int | None,
    memory: int | None,
) -> str:
    if peak is not None and memory is not None and peak > MEMORY_SHARE * memory:
        return f"holds {peak / 2**30:.1f} GiB of a share of {memory / 2**30:.1f} GiB"
    faster = of_plain / seconds
    if not math.isfinite(faster) or faster < FASTER:
        return f"{faster:.2f} times as fast as the plain way, {FASTER} are asked"
    saved = iterations * (of_plain - seconds)
    if saved < SAVES * begin:
        return f"saves {saved:.0f} s, and takes {begin:.0f} s to begin"
    return ""
