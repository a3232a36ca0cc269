"""What a faster way is held to in an engine trial: its numbers, and what it costs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dfshield.engine.peak_memory import MEMORY_SHARE

Kind = Literal["same", "float32", "rounded"]
"""``same``: the same kernels, so the same bytes. ``float32``: in another order. ``rounded``: with
products in bfloat16 or TF32."""

GRADIENT_ERROR = 4.0
COSINE, NORM = 0.99, 0.05
TERMS = {"same": 0.0, "float32": 1e-4, "rounded": 2e-2}
TOTAL = 0.05
STATISTICS = 1e-2
AGREEMENT = 0.01
ATTACKED = 0.99
FASTER = 1.3
"""How many times as fast as the plain way a faster one has to be."""
SAVES = 3.0
"""How many times the seconds to begin with it a faster way has to save in all."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a way gives at one state.

    Attributes:
        gradient: with respect to what is optimised, flat.
        terms: of the loss.
        statistics: mean and variance of the BatchNorm layers, in training; else None.
        attacked: the loss of the student under the attacks of this way, in training; else None.
    """

    gradient: Float[Tensor, " n"]
    terms: Float[Tensor, " t"]
    statistics: Float[Tensor, " s"] | None = None
    attacked: float | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where some iterations lead.

    Attributes:
        state: to go on from; it does not change when the work goes on.
        tensors: what is optimised, for comparing bytes.
        total: the loss.
        agreement: GradRefine's agreement rate in the first of them, in training; else None.
    """

    state: object
    tensors: tuple[Tensor, ...]
    total: float
    agreement: float | None = None


@runtime_checkable
class Answering(Protocol):
    """What tells the numbers of some work at a state; None is the beginning."""

    def begin(self) -> None:
        """Build and, if need be, compile it."""

    def answer(self, state: object) -> Answer:
        """Return gradient and losses at a state."""


@runtime_checkable
class Way(Answering, Protocol):
    """One way of computing some work, on one worker."""

    def run(self, state: object, steps: int) -> Outcome:
        """Do some iterations from a state, and wait until they are done."""

    def peak_bytes(self) -> int | None:
        """Return the most memory held since `begin`; None where that is not known."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What the plain way gives.

    Attributes:
        states: the beginning, and after ``steps`` iterations.
        answers: at each of them.
        exact: the same in float64.
        end: after ``steps`` more.
        steps: how many.
    """

    states: tuple[object, ...]
    answers: tuple[Answer, ...]
    exact: tuple[Answer, ...]
    end: Outcome
    steps: int


def check_answers(way: Way, kind: Kind, expected: Expected) -> Iterator[str]:
    """Compare gradient, terms, statistics and the strength of attacks at every state."""
    for state, plain, exact in zip(expected.states, expected.answers, expected.exact, strict=True):
        got = way.answer(state)
        if not (torch.isfinite(got.gradient).all() and torch.isfinite(got.terms).all()):
            yield "gradient or losses are not finite"
            return
        yield from _GRADIENT[kind](got.gradient, plain.gradient, exact.gradient)
        off = _largest(got.terms, plain.terms)
        if off > TERMS[kind]:
            yield f"a term of the loss is off by {off:.1e}, {TERMS[kind]:.0e} are allowed"
        if got.statistics is not None and plain.statistics is not None:
            off = _relative(got.statistics, plain.statistics)
            if not off <= STATISTICS:
                yield f"BatchNorm statistics are off by {off:.1e}, {STATISTICS:.0e} are allowed"
        if (
            got.attacked is not None
            and plain.attacked is not None
            and not got.attacked >= ATTACKED * plain.attacked
        ):
            yield f"its attacks are weaker: loss {got.attacked:.4f}, plain {plain.attacked:.4f}"


def check_repeats(way: Way, _kind: Kind, expected: Expected) -> Iterator[str]:
    """Compare the bytes of two runs, and of one that goes on midway."""
    state, steps = expected.states[1], max(2, expected.steps // 10)
    once, twice = way.run(state, steps), way.run(state, steps)
    if not all(map(torch.equal, once.tensors, twice.tensors)):
        yield "gives other bytes each time"
    midway = way.run(state, steps // 2).state
    resumed = way.run(midway, steps - steps // 2)
    if not all(map(torch.equal, once.tensors, resumed.tensors)):
        yield "gives other bytes when it goes on from a state"


def check_end(way: Way, kind: Kind, expected: Expected) -> Iterator[str]:
    """Compare where the optimisation leads."""
    plain, got = expected.end, way.run(expected.states[1], expected.steps)
    if kind == "same" and not all(map(torch.equal, got.tensors, plain.tensors)):
        yield f"differs from the plain way after {expected.steps} iterations"
    off = abs(got.total - plain.total) / max(abs(plain.total), 1e-12)
    if not off <= TOTAL:
        yield f"the loss after {expected.steps} iterations is off by {off:.0%}"
    if got.agreement is not None and plain.agreement is not None:
        off = abs(got.agreement - plain.agreement)
        if not off <= AGREEMENT:
            yield f"GradRefine's agreement rate is off by {100 * off:.1f} points"


CHECKS: tuple[Callable[[Way, Kind, Expected], Iterator[str]], ...] = (
    check_answers,
    check_repeats,
    check_end,
)


def too_costly(
    begin: float,
    seconds: float,
    of_plain: float,
    iterations: float,
    peak: int | None,
    memory: int | None,
) -> str:
    """Return why a way costs too much memory or time; empty where it does not.

    Args:
        begin: the seconds to begin with it.
        seconds: of an iteration.
        of_plain: of a plain iteration.
        iterations: of the work.
        peak: bytes that it held; None where that is not known.
        memory: bytes that a worker may hold; None where that is not known.
    """
    if peak is not None and memory is not None and peak > MEMORY_SHARE * memory:
        return f"holds {peak / 2**30:.1f} GiB of a share of {memory / 2**30:.1f} GiB"
    faster = of_plain / seconds
    if not math.isfinite(faster) or faster < FASTER:
        return f"{faster:.2f} times as fast as the plain way, {FASTER} are asked"
    saved = iterations * (of_plain - seconds)
    if saved < SAVES * begin:
        return f"saves {saved:.0f} s, and takes {begin:.0f} s to begin"
    return ""


def _same(got: Tensor, plain: Tensor, _exact: Tensor) -> Iterator[str]:
    if not torch.equal(got, plain):
        yield "the gradient is not that of the plain way, to the byte"


def _as_exact(got: Tensor, plain: Tensor, exact: Tensor) -> Iterator[str]:
    error, of_plain = (float((x.double() - exact).norm()) for x in (got, plain))
    # One rounding is allowed where the plain way happens to make none.
    of_plain = max(of_plain, torch.finfo(torch.float32).eps * float(exact.norm()), 1e-300)
    if error > GRADIENT_ERROR * of_plain:
        yield (
            f"the gradient's error is {error / of_plain:.1f} times the plain way's, "
            f"{GRADIENT_ERROR:.0f} are allowed"
        )


def _about(got: Tensor, plain: Tensor, _exact: Tensor) -> Iterator[str]:
    cosine = float(torch.cosine_similarity(got.double(), plain.double(), dim=0))
    longer = float(got.double().norm() / plain.double().norm().clamp_min(1e-300))
    if not cosine >= COSINE:
        yield f"the gradient's cosine with the plain one is {cosine:.4f}, {COSINE} is asked"
    if not abs(longer - 1) <= NORM:
        yield f"the gradient is {longer:.3f} times as long as the plain one"


_GRADIENT = {"same": _same, "float32": _as_exact, "rounded": _about}


def _relative(got: Tensor, plain: Tensor) -> float:
    return float((got - plain).norm() / plain.norm().clamp_min(1e-12))


def _largest(got: Tensor, plain: Tensor) -> float:
    """Return the largest difference of a term, relative to it or, where small, to the others."""
    scale = torch.maximum(plain.abs(), 1e-2 * plain.abs().max()).clamp_min(1e-12)
    return float(((got - plain).abs() / scale).max())
