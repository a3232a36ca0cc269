"""AutoAttack (Croce and Hein, 2020) through pyautoattack, also for few classes."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyautoattack
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.errors import DfshieldWarning, InputError

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
NUM_TARGETS = 9
_NORMS = {"linf": "Linf", "l2": "L2"}


def suite(num_classes: int) -> tuple[str, ...]:
    """Return the attacks that are defined for this many classes, in the order they run.

    The targeted DLR loss divides by a difference of the first, third and fourth largest logit, the
    untargeted one by that of the first and third. With three classes APGD-T is replaced by
    APGD-DLR, with two there is only one other class and the cross-entropy is what is left.

    Raises:
        InputError: for fewer than two classes.
    """
    if num_classes >= 4:
        return STANDARD
    if num_classes == 3:
        return ("apgd-ce", "apgd-dlr", "fab-t", "square")
    if num_classes == 2:
        return ("apgd-ce", "fab-t", "square")
    raise InputError(f"AutoAttack needs at least 2 classes, but the model has {num_classes}")


class AutoAttack(Attack):
    """The standard suite of AutoAttack, in sequence on the images that still stand.

    APGD-CE (100 iterations), APGD-T (targeted DLR), FAB-T and Square (5,000 queries). The targeted
    ones take min(9, C - 1) target classes; below four classes the suite is cut to what is defined
    (:func:`suite`), which :meth:`standard_suite` and a warning say. What pyautoattack warns of
    (zero gradients, a randomised model, Square beating the white-box attacks) is passed on as
    :class:`dfshield.errors.DfshieldWarning`.

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.
        version: ``standard``.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "autoattack"

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        version: str = "standard",
        batch_size: int = 250,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        if version != "standard":
            raise InputError(f"version: {version!r} is unknown: known is 'standard'")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: {batch_size!r} must be a whole number of at least 1")
        self.version = version
        self.batch_size = batch_size

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run the suite; images that withstand it, or are wrong already, come back unchanged."""
        with torch.no_grad():
            num_classes = model(x[:1]).shape[1]
        attacks = suite(num_classes)
        with _isolated(), _log_as_warnings():
            adversary = pyautoattack.AutoAttack(
                model,
                norm=_NORMS[self.norm],
                eps=self.eps,
                version=self.version,
                seed=seed,
                device=x.device,
            )
            adversary.attacks_to_run = list(attacks)
            # With more targets than other classes pyautoattack indexes past the logits, but only
            # once an image has withstood APGD-CE.
            adversary.apgd_targeted.n_target_classes = min(NUM_TARGETS, num_classes - 1)
            adversary.fab.n_target_classes = min(NUM_TARGETS, num_classes - 1)
            x_adv: Tensor
            x_adv, _ = adversary.run_standard_evaluation(x, y, batch_size=self.batch_size)
        self._say_what_ran(attacks, num_classes)
        return x_adv

    def _say_what_ran(self, attacks: tuple[str, ...], num_classes: int) -> None:
        if not self.standard_suite(num_classes):
            warnings.warn(
                f"not the standard AutoAttack suite: with {num_classes} classes there is no "
                f"targeted DLR loss; ran {', '.join(attacks)}",
                DfshieldWarning,
                stacklevel=4,
            )
        elif num_classes <= NUM_TARGETS:
            warnings.warn(
                f"AutoAttack's targeted attacks took all {num_classes - 1} other classes as "
                f"targets, fewer than the usual {NUM_TARGETS}",
                DfshieldWarning,
                stacklevel=4,
            )

    @property
    def label(self) -> str:
        """``AutoAttack``."""
        return "AutoAttack"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {**super().describe(), "version": self.version, "batch_size": self.batch_size}

    def standard_suite(self, num_classes: int) -> bool:
        """Say whether all four attacks of the standard suite are defined for this many classes."""
        return suite(num_classes) == STANDARD


@contextmanager
def _isolated() -> Iterator[None]:
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
def _log_as_warnings() -> Iterator[None]:
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
