"""Whether an engine trial is due before work begins, and the engine by its verdict."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dfshield.config import EngineConfig
from dfshield.engine.trial import Trial
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import COMPILING_PAYS


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
) -> TriedEngine:
    """Return the engine for new work, by a trial where one is due.

    It is due where compiling is left to the program and the work is not so short that nobody need
    measure it. The trial itself finds out whether the plain way would take ten minutes; if not, the
    guess stands. A trial that fails, as by a worker that crashes, leaves the plain way.

    Args:
        here: the plain engine of this place.
        guess: the engine without a trial.
        options: what is asked for.
        work: multiply-adds of all forward passes of the work.
        try_ways: runs the trial on a worker under the plain engine that it is given.
        say: called with one line about the verdict.

    Raises:
        InputError: if the trial is given what cannot be computed.
    """
    asked = options.compile != "auto" or options.precision not in ("auto", "float32")
    if asked or work < COMPILING_PAYS:
        return TriedEngine(guess)
    plain = replace(here, batches_per_pass=guess.batches_per_pass)
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


def format_verdict(trial: Trial) -> str:
    """Return what a trial has found, in one line: a warning if a way failed."""
    found = f"Engine trial: {trial.chosen}"
    if not trial.failures:
        return found
    return f"Warning: {found}; {'; '.join(trial.failures)}"
