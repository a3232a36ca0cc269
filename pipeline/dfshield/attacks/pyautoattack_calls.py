"""Calls of pyautoattack: settings, class counts, and what it changes globally undone."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyautoattack
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.leaving_batch import LeavingAPGD, LeavingTargetedAPGD
from dfshield.attacks.models import logits_of
from dfshield.attacks.square_windows import SquareOfAnySize
from dfshield.errors import DfshieldWarning

NORM_NAMES = {"linf": "Linf", "l2": "L2"}
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
TARGETED = ("apgd-t", "fab-t")
NUM_TARGETS = 9
EOT_DRAWS = 20
"""Gradients that version ``rand`` averages in every step."""


@dataclass(frozen=True)
class Budget:
    """How long the parts of AutoAttack run; the defaults are those of its standard suite.

    Attributes:
        num_steps: iterations of APGD and FAB.
        queries: of Square, per image.
        restarts: of APGD-CE, APGD-DLR and FAB (untargeted).
        targets: target classes of APGD-T and FAB-T; fewer where there are fewer other classes.
        eot: gradients that APGD averages in every step, for a model that draws random numbers.
    """

    num_steps: int = 100
    queries: int = 5000
    restarts: int = 1
    targets: int = NUM_TARGETS
    eot: int = 1


def defined(parts: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Return the parts with what stands in for those that this many classes leave undefined.

    The targeted DLR loss divides by a difference of the first, third and fourth largest logit, the
    untargeted one by that of the first and third. With three classes APGD-DLR stands in for APGD-T;
    with two there is only one other class, and APGD-CE stands in for both. A part that is there
    already is not run twice.
    """
    stand_in = {}
    if num_classes == 3:
        stand_in = {"apgd-t": "apgd-dlr"}
    elif num_classes == 2:
        stand_in = {"apgd-t": "apgd-ce", "apgd-dlr": "apgd-ce"}
    return tuple(dict.fromkeys(stand_in.get(part, part) for part in parts))


def most_passes(parts: Sequence[str], budget: Budget) -> float:
    """Return the forward passes that parts take of an image that withstands them.

    A gradient costs another one. The untargeted FAB takes the gradient of every logit; here it
    counts as the targeted one.
    """
    gradients = 2.0 * budget.num_steps * budget.eot
    of_part = {
        "apgd-ce": gradients * budget.restarts,
        "apgd-dlr": gradients * budget.restarts,
        "apgd-t": gradients * budget.targets,
        "fab": 3.0 * budget.num_steps * budget.targets * budget.restarts,
        "fab-t": 3.0 * budget.num_steps * budget.targets,
        "square": float(budget.queries),
    }
    return sum(of_part[part] for part in parts)


def run_parts(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    parts: Sequence[str],
    version: str,
    budget: Budget,
    eps: float,
    norm: Norm,
    batch_size: int,
    seed: int,
) -> Float[Tensor, "n c h w"]:
    """Run parts of AutoAttack in sequence on the images that still stand.

    Images that withstand everything, or are wrong already, come back unchanged.
    """
    num_targets = min(budget.targets, logits_of(model, x[:1]).shape[1] - 1)
    with isolated(), log_as_warnings():
        adversary = pyautoattack.AutoAttack(
            model, norm=NORM_NAMES[norm], eps=eps, version=version, seed=seed, device=x.device
        )
        adversary.attacks_to_run = list(parts)
        common = {
            "n_iter": budget.num_steps,
            "norm": NORM_NAMES[norm],
            "eps": eps,
            "seed": seed,
            "eot_iter": budget.eot,
            "device": x.device,
            "logger": adversary.logger,
        }
        adversary.apgd = LeavingAPGD(model, n_restarts=budget.restarts, **common)
        # With more targets than other classes pyautoattack indexes past the logits, but only once
        # an image has withstood APGD-CE.
        adversary.apgd_targeted = LeavingTargetedAPGD(model, n_target_classes=num_targets, **common)
        adversary.fab.n_iter = budget.num_steps
        adversary.fab.n_restarts = budget.restarts
        adversary.fab.n_target_classes = num_targets
        adversary.square = _square(
            model, queries=budget.queries, eps=eps, norm=norm, seed=seed, device=x.device
        )
        x_adv: Tensor
        x_adv, _ = adversary.run_standard_evaluation(x, y, batch_size=batch_size)
    return x_adv


def run_square(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    queries: int,
    eps: float,
    norm: Norm,
    seed: int,
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """Run Square once on images that are all right; return where it ends, and the queries."""
    with isolated(), torch.no_grad():
        square = _square(model, queries=queries, eps=eps, norm=norm, seed=seed, device=x.device)
        square.init_hyperparam(x)
        torch.manual_seed(seed)
        x_adv: Tensor
        used, x_adv = square.attack_single_run(x, y)
    return x_adv, used.long()


def _square(
    model: nn.Module, *, queries: int, eps: float, norm: Norm, seed: int, device: torch.device
) -> SquareOfAnySize:
    """Return Square with the settings of AutoAttack's standard suite."""
    return SquareOfAnySize(
        model,
        norm=NORM_NAMES[norm],
        n_queries=queries,
        eps=eps,
        seed=seed,
        resc_schedule=False,
        device=device,
    )


@contextmanager
def isolated() -> Iterator[None]:
    """Undo what pyautoattack changes globally: torch's generators and the trace function."""
    # Forking the generators of a CUDA that nobody uses would start it.
    in_use: Callable[[], bool] = torch.cuda.is_initialized
    devices = list(range(torch.cuda.device_count())) if in_use() else []
    trace = sys.gettrace()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            sys.settrace(trace)


@contextmanager
def log_as_warnings() -> Iterator[None]:
    """Turn pyautoattack's log into warnings, one of each kind, and keep its progress silent."""
    logger = logging.getLogger("auto-attack")
    handler = _Collector()
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
    for message in handler.messages.values():
        warnings.warn(f"AutoAttack: {message}", DfshieldWarning, stacklevel=6)


class _Collector(logging.Handler):
    """Keep the first message of every kind: those that differ in numbers alone are one kind."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = re.sub(r"\s*See flags_doc\.md for details\.", "", record.getMessage())
        # Its word on three classes: the suite has been cut already.
        if not message.startswith("with only"):
            self.messages.setdefault(re.sub(r"\d+", "#", message), message)


def say_targets(parts: Sequence[str], num_classes: int, targets: int) -> None:
    """Warn where the targeted parts take fewer targets than asked, since there are no more."""
    others = num_classes - 1
    if others < targets and any(part in TARGETED for part in parts):
        warnings.warn(
            f"AutoAttack's targeted attacks took all {others} other classes as targets, fewer than "
            f"the usual {targets}",
            DfshieldWarning,
            stacklevel=5,
        )
