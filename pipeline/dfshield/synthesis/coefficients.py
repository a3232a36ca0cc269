"""Diversified sample synthesis: the coefficients of the loss terms, drawn once per batch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from dfshield.checks import non_negative, one_of
from dfshield.errors import InputError

Rule = Literal["code", "paper", "fixed"]

FIXED_TV = 2.5e-5


class Coefficients(NamedTuple):
    """The weights of equation 6 for one batch: ``alpha_class``, ``alpha_feature``, ``alpha_tv``."""

    class_prior: float
    feature: float
    tv: float


@dataclass(frozen=True, kw_only=True)
class CoefficientSampler:
    """Equation 8: ``alpha_s ~ U(0, 1)``, drawn once per batch and held for all its iterations.

    The paper draws all three coefficients; the authors' code draws the first two and leaves total
    variation at 2.5e-5, since a draw would make that term up to 40,000 times larger and the images
    blurred. Both readings are kept.

    Attributes:
        rule: ``code`` draws class and feature, ``paper`` draws all three, ``fixed`` draws none
            (equation 6 with the scales below: no diversification).
        class_scale: factor on the class coefficient.
        feature_scale: factor on the feature coefficient.
        tv_scale: factor on the total-variation coefficient; None is 1 under ``paper`` (so that
            ``alpha_tv ~ U(0, 1)``) and 2.5e-5 otherwise.
        shift: draws lie in ``[shift, 1 + shift)`` instead of ``[0, 1)``.
        linear: one draw ``u`` for two terms, class ``u`` and feature ``1 - u``.
    """

    rule: Rule = "code"
    class_scale: float | int = 1.0
    feature_scale: float | int = 1.0
    tv_scale: float | int | None = None
    shift: float | int = 0.0
    linear: bool = False

    def __post_init__(self) -> None:
        one_of(get_args(Rule), self.rule, "rule")
        for name in ("class_scale", "feature_scale", "tv_scale", "shift"):
            value = getattr(self, name)
            if value is not None or name != "tv_scale":
                object.__setattr__(self, name, non_negative(value, name))
        if not isinstance(self.linear, bool):
            raise InputError(f"linear: {self.linear!r} must be true or false")
        if self.rule == "fixed" and (self.linear or self.shift):
            raise InputError(
                "rule: 'fixed' draws nothing, so linear and shift have no effect on it"
            )

    def draw(self, generator: np.random.Generator) -> Coefficients:
        """Draw the coefficients of one batch; three numbers are consumed under every rule."""
        draws = generator.random(3)
        if self.linear:
            draws[1] = 1.0 - draws[0]
        draws += self.shift
        if self.rule == "fixed":
            draws[:] = 1.0
        elif self.rule == "code":
            draws[2] = 1.0
        tv_scale = self.tv_scale
        if tv_scale is None:
            tv_scale = 1.0 if self.rule == "paper" else FIXED_TV
        return Coefficients(
            class_prior=float(draws[0] * self.class_scale),
            feature=float(draws[1] * self.feature_scale),
            tv=float(draws[2] * tv_scale),
        )
