"""Whether an engine trial is due before work begins, and the engine by its verdict."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dfshield.config import EngineConfig
from dfshield.engine.trial import Trial
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import COMPILING_PAYS

Begun: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any] | None]
"""Engine of work that has begun, and the verdict that it was chosen by, as they are recorded."""


@dataclass(frozen=True)
class TriedEngine:
    """An engine for new work.

    Attributes:
        engine: the engine.
        trial: what `Trial.to_json` returns of the trial that it was chosen by; None if there was
            none.
    """

    engine: Engine
    trial: dict[str, Any] | None = None


def tried_engine(
    here: Engine,
    guess: Engine,
    options: EngineConfig,
    *,
    work: float,
    try_ways: Callable[[Engine], Trial | None],
    say: Callable[[str], object],
    known: Iterable[Begun] = (),
) -> TriedEngine:
    """Return the engine for new work, by a trial where one is due.

    It is due where compiling is left to the program and the work is not so short that nobody need
    measure it. The trial itself finds out whether the plain way would take ten minutes; if not, the
    guess stands. A trial that fails, as by a worker that crashes, leaves the plain way. Work of the
    same settings that has begun under a verdict here gives it to this work, too.

    Args:
        here: the plain engine of this place.
        guess: the engine without a trial.
        options: what is asked for.
        work: multiply-adds of all forward passes of the work.
        try_ways: runs the trial on a worker under the plain engine that it is given.
        say: called with one line about the verdict.
        known: engine and verdict of work of the same settings, looked at only where a trial is due.

    Raises:
        InputError: if the trial is given what cannot be computed.
    """
    asked = options.compile != "auto" or options.precision not in ("auto", "float32")
    if asked or work < COMPILING_PAYS:
        return TriedEngine(guess)
    plain = replace(here, batches_per_pass=guess.batches_per_pass)
    for begun in known:
        found = _verdict_of(begun, plain, options)
        if found is not None:
            return found
    try:
        trial = try_ways(plain)
    except InputError:
        raise
    except DfshieldError as error:
        say(f"Warning: the engine trial failed ({error}): the work is computed plainly")
        return TriedEngine(plain)
    if trial is None or not trial.rungs:
        return TriedEngine(guess)
    say(format_verdict(trial))
    return TriedEngine(replace(plain, **trial.engine), trial.to_json())


def _verdict_of(begun: Begun, plain: Engine, options: EngineConfig) -> TriedEngine | None:
    """Return a verdict of other work, if it was found here and is what that goes by still."""
    engine, trial = begun
    if trial is None:
        return None
    found = replace(plain, **trial["engine"])
    if found.to_json() != engine or options.precision not in ("auto", found.precision):
        return None
    return TriedEngine(found, dict(trial))


def format_verdict(trial: Trial) -> str:
    """Return what a trial has found, in one line: a warning if a way failed."""
    found = f"Engine trial: {trial.chosen}"
    if not trial.failures:
        return found
    return f"Warning: {found}; {'; '.join(trial.failures)}"
