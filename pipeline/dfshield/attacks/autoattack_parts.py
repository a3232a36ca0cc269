"""The parts of AutoAttack, each alone, with the settings it has in the standard suite."""

import warnings
from dataclasses import asdict
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack, Outcome, QueryAttack
from dfshield.attacks.models import logits_of
from dfshield.attacks.pyautoattack_calls import (
    NUM_TARGETS,
    Budget,
    defined,
    most_passes,
    run_parts,
    run_square,
    say_targets,
)
from dfshield.checks import at_least
from dfshield.errors import DfshieldWarning


class _Part(Attack):
    """One part, through pyautoattack; images that withstand it come back unchanged."""

    independent = False
    ends_early = True
    settings: ClassVar[tuple[str, ...]]
    """Those of the budget that the part heeds."""

    def __init__(
        self, *, eps: float | int | str, norm: Norm, batch_size: int, **settings: int
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        for key, value in settings.items():
            setattr(self, key, at_least(1, value, key))
        self.budget = Budget(**settings)
        self.batch_size = at_least(1, batch_size, "batch_size")

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run the part, or what stands in for it where the classes are too few."""
        num_classes = logits_of(model, x[:1]).shape[1]
        parts = defined((self.name,), num_classes)
        x_adv = run_parts(
            model,
            x,
            y,
            parts=parts,
            version="custom",
            budget=self.budget,
            eps=self.eps,
            norm=self.norm,
            batch_size=self.batch_size,
            seed=seed,
        )
        if parts != (self.name,):
            warnings.warn(
                f"{self.label} is not defined for {num_classes} classes: ran {parts[0]} instead",
                DfshieldWarning,
                stacklevel=4,
            )
        else:
            say_targets(parts, num_classes, self.budget.targets)
        return x_adv

    @property
    def passes(self) -> float | None:
        """Of an image that withstands the part."""
        return most_passes((self.name,), self.budget)

    @property
    def draws(self) -> int:
        """Gradients that APGD averages in every step."""
        return self.budget.eot

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        budget = asdict(self.budget)
        return {
            **super().describe(),
            **{key: budget[key] for key in self.settings},
            "batch_size": self.batch_size,
        }


class APGDCE(_Part):
    """APGD on the cross-entropy: PGD with momentum whose step halves where progress stalls.

    Croce and Hein (2020).

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        num_steps: iterations.
        restarts: random starts, each on the images that still stand.
        eot: gradients averaged in every step, for a model that draws random numbers.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "apgd-ce"
    settings = ("num_steps", "restarts", "eot")

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 100,
        restarts: int = 1,
        eot: int = 1,
        batch_size: int = 250,
    ) -> None:
        super().__init__(
            eps=eps,
            norm=norm,
            batch_size=batch_size,
            num_steps=num_steps,
            restarts=restarts,
            eot=eot,
        )


class APGDDLR(APGDCE):
    """APGD on the DLR loss; with two classes on the cross-entropy, which a warning says."""

    name = "apgd-dlr"


class APGDT(_Part):
    """APGD on the targeted DLR loss, one run for each of the likeliest other classes.

    With three classes APGD-DLR stands in for it, with two APGD-CE; a warning says so.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        num_steps: iterations.
        targets: classes to aim at; all others where there are fewer.
        eot: gradients averaged in every step.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "apgd-t"
    settings = ("num_steps", "targets", "eot")

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 100,
        targets: int = NUM_TARGETS,
        eot: int = 1,
        batch_size: int = 250,
    ) -> None:
        super().__init__(
            eps=eps, norm=norm, batch_size=batch_size, num_steps=num_steps, targets=targets, eot=eot
        )


class FABT(_Part):
    """Targeted FAB: the closest point beyond the linearised boundary, iterated.

    Croce and Hein (2020, "Minimally distorted adversarial examples"); what it finds counts if it
    lies in the ball.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        num_steps: iterations.
        targets: classes to aim at; all others where there are fewer.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "fab-t"
    settings = ("num_steps", "targets")

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 100,
        targets: int = NUM_TARGETS,
        batch_size: int = 250,
    ) -> None:
        super().__init__(
            eps=eps, norm=norm, batch_size=batch_size, num_steps=num_steps, targets=targets
        )


class Square(QueryAttack):
    """Square: random search over square windows, from logits alone (Andriushchenko et al., 2020).

    Images that withstand it come back unchanged. Queries are counted until an image is wrong.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        queries: at most, per image.
        batch_size: images attacked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "square"
    independent = False
    ends_early = True

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        queries: int = 5000,
        batch_size: int = 250,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.queries = at_least(1, queries, "queries")
        self.batch_size = at_least(1, batch_size, "batch_size")

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Search, batch by batch, with the images that are right."""
        right = (logits_of(model, x).argmax(1) == y).nonzero().flatten()
        x_adv, queries = x.clone(), torch.ones_like(y)
        for start in range(0, len(right), self.batch_size):
            places = right[start : start + self.batch_size]
            found, used = run_square(
                model,
                x[places],
                y[places],
                queries=self.queries,
                eps=self.eps,
                norm=self.norm,
                seed=seed,
            )
            logits = logits_of(model, found)
            broken = (logits.argmax(1) != y[places]) | ~logits.isfinite().all(1)
            x_adv[places[broken]] = found[broken]
            queries[places] += used
        return Outcome(x_adv, queries)

    @property
    def passes(self) -> float | None:
        """One for every query."""
        return float(self.queries)

    @property
    def label(self) -> str:
        """``Square``."""
        return "Square"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {**super().describe(), "queries": self.queries, "batch_size": self.batch_size}
