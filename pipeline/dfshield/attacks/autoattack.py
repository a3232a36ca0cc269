"""AutoAttack (Croce and Hein, 2020) through pyautoattack, also for few classes."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.attacks.models import logits_of
from dfshield.attacks.pyautoattack_calls import (
    EOT_DRAWS,
    PARTS,
    Budget,
    defined,
    most_passes,
    run_parts,
    say_targets,
)
from dfshield.checks import at_least, one_of
from dfshield.errors import DfshieldWarning, InputError

VERSIONS = {
    "standard": (("apgd-ce", "apgd-t", "fab-t", "square"), Budget()),
    "plus": (("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"), Budget(restarts=5)),
    "rand": (("apgd-ce", "apgd-dlr"), Budget(eot=EOT_DRAWS)),
}
CUSTOM = "custom"


class AutoAttack(Attack):
    """A suite of AutoAttack, in sequence on the images that still stand.

    - ``standard``: APGD-CE (100 iterations), APGD-T (targeted DLR), FAB-T, Square (5,000 queries).
    - ``plus``: APGD-CE and APGD-DLR with 5 restarts, FAB with 5, Square, APGD-T, FAB-T. FAB takes
      the gradients of all logits at once: with many classes use a small ``batch_size``.
    - ``rand``: APGD-CE and APGD-DLR, each gradient the mean of 20, for models that draw random
      numbers.
    - ``custom``: ``attacks``, with the settings of ``standard`` but for those given.

    The targeted ones take min(9, C - 1) target classes; below four classes the suite is cut to what
    is defined (:func:`dfshield.attacks.pyautoattack_calls.defined`), which :meth:`standard_suite`
    and a warning say. What pyautoattack warns of (zero gradients, a randomised model, Square
    beating the white-box attacks) is passed on as :class:`dfshield.errors.DfshieldWarning`.

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.
        version: see above.
        attacks: of ``custom``, in the order they run, as a list or a text with commas: of
            ``apgd-ce``, ``apgd-dlr``, ``apgd-t``, ``fab``, ``fab-t`` and ``square``.
        num_steps: of ``custom``: iterations of APGD and FAB.
        queries: of ``custom``: of Square, per image.
        restarts: of ``custom``: of APGD-CE, APGD-DLR and FAB.
        targets: of ``custom``: target classes of APGD-T and FAB-T.
        eot: of ``custom``: gradients that APGD averages in every step.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; for fewer than two
            classes when it runs.
    """

    name = "autoattack"
    independent = False
    ends_early = True

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        version: str = "standard",
        attacks: Sequence[str] | None = None,
        num_steps: int | None = None,
        queries: int | None = None,
        restarts: int | None = None,
        targets: int | None = None,
        eot: int | None = None,
        batch_size: int = 250,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.version = one_of((*VERSIONS, CUSTOM), version, "version")
        self.attacks = attacks
        self.num_steps, self.queries, self.restarts = num_steps, queries, restarts
        self.targets, self.eot = targets, eot
        settings = {
            "num_steps": num_steps,
            "queries": queries,
            "restarts": restarts,
            "targets": targets,
            "eot": eot,
        }
        given = {
            key: at_least(1, value, key) for key, value in settings.items() if value is not None
        }
        if version == CUSTOM:
            self.parts, self.budget = _parts(attacks), replace(Budget(), **given)
        else:
            if attacks is not None or given:
                key = "attacks" if attacks is not None else next(iter(given))
                raise InputError(f"{key}: only with version: custom, but version is {version!r}")
            self.parts, self.budget = VERSIONS[version]
        self.batch_size = at_least(1, batch_size, "batch_size")

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run the suite; images that withstand it, or are wrong already, come back unchanged."""
        num_classes = logits_of(model, x[:1]).shape[1]
        parts = defined(self.parts, num_classes)
        x_adv = run_parts(
            model,
            x,
            y,
            parts=parts,
            version=self.version,
            budget=self.budget,
            eps=self.eps,
            norm=self.norm,
            batch_size=self.batch_size,
            seed=seed,
        )
        self._say_what_ran(parts, num_classes)
        return x_adv

    def _say_what_ran(self, parts: tuple[str, ...], num_classes: int) -> None:
        if parts == self.parts:
            say_targets(parts, num_classes, self.budget.targets)
            return
        missing = "targeted DLR loss" if num_classes == 3 else "DLR loss, targeted or not"
        warnings.warn(
            f"not the {self.version} AutoAttack suite: with {num_classes} classes there is no "
            f"{missing}; ran {', '.join(parts)}",
            DfshieldWarning,
            stacklevel=5,
        )

    @property
    def passes(self) -> float | None:
        """Those of all parts, for an image that withstands them."""
        return most_passes(self.parts, self.budget)

    @property
    def label(self) -> str:
        """``AutoAttack``, and the version or the attacks where it is not the standard suite."""
        if self.version == "standard":
            return "AutoAttack"
        return f"AutoAttack ({self._attacks if self.version == CUSTOM else self.version})"

    @property
    def _attacks(self) -> str:
        return ",".join(self.parts)

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        custom = {"attacks": self._attacks, **asdict(self.budget)}
        return {
            **super().describe(),
            "version": self.version,
            **(custom if self.version == CUSTOM else {}),
            "batch_size": self.batch_size,
        }

    @property
    def draws(self) -> int:
        """Gradients that APGD averages in every step."""
        return self.budget.eot

    def standard_suite(self, num_classes: int) -> bool | None:
        """Say whether every attack of a published suite is defined; None for a custom one."""
        if self.version == CUSTOM:
            return None
        return defined(self.parts, num_classes) == self.parts


def _parts(attacks: Sequence[str] | None) -> tuple[str, ...]:
    if not attacks or not isinstance(attacks, Sequence):
        raise InputError(f"attacks: name those of the custom version, of {', '.join(PARTS)}")
    names = attacks.split(",") if isinstance(attacks, str) else attacks
    return tuple(dict.fromkeys(one_of(PARTS, str(name).strip(), "attacks") for name in names))
