"""Two attacks on the same images: is the one that should be at least as strong really so?

The images are the same, so the comparison is paired: images that both attacks break, or neither,
say nothing. Of the others, the ones that the supposedly weaker attack breaks alone are counted
against those that the stronger one breaks alone, by McNemar's exact test.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfshield.audit.checks import Verdict

FAIL_BELOW = 0.01
"""One-sided p-value below which the weaker attack counts as stronger."""
WARN_BELOW = 0.05

Broken = npt.NDArray[np.bool_]
"""Per image: wrong when clean, or wrong under attack."""


@dataclass(frozen=True)
class Comparison:
    """How many images each of two attacks breaks alone.

    Attributes:
        stronger_alone: images that only the attack breaks that should be at least as strong.
        weaker_alone: images that only the other one breaks.
        p_value: probability of so many ``weaker_alone`` or more if both were equally strong
            (one-sided binomial test of the discordant pairs).
    """

    stronger_alone: int
    weaker_alone: int
    p_value: float

    @property
    def verdict(self) -> Verdict:
        """Whether "at least as strong" has to be given up."""
        if self.p_value < FAIL_BELOW:
            return "fail"
        return "warn" if self.p_value < WARN_BELOW else "pass"


def compare(stronger: Broken, weaker: Broken) -> Comparison:
    """Return how the attack that should be at least as strong compares with the other one."""
    alone, other_alone = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    discordant = alone + other_alone
    p_value = 1.0
    if discordant:
        from scipy.stats import binomtest  # here: every process would wait for it

        p_value = float(binomtest(other_alone, discordant, 0.5, alternative="greater").pvalue)
    return Comparison(alone, other_alone, p_value)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts; ``pass`` if there is none."""
    order: tuple[Verdict, ...] = ("fail", "warn", "pass")
    return next((verdict for verdict in order if verdict in verdicts), "pass")


def robust_share(broken: Broken) -> float:
    """Return the share of images that stand."""
    return float(1 - broken.mean())
