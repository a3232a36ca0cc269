"""A learning rate that falls in steps."""

from collections.abc import Sequence

from dfshield.checks import positive, share
from dfshield.errors import InputError
from dfshield.schedules.base import Schedule, exactly


class Piecewise(Schedule):
    """The learning rate is multiplied by a factor at each milestone.

    The defaults are the steps that Rice, Wong and Kolter (2020) compare others with.

    Args:
        milestones: shares of the updates after the warm-up, rising, each above 0 and below 1.
        decay: what the rate is multiplied by at each, above 0 and at most 1.

    Raises:
        InputError: for milestones that are none or do not rise, or a number outside its range.
    """

    name = "piecewise"

    def __init__(
        self,
        *,
        milestones: Sequence[float] = (0.5, 0.75),
        decay: float | int = 0.1,
        warmup: float | int = 0.0,
    ) -> None:
        super().__init__(warmup=warmup)
        self.milestones = _rising(milestones)
        self.decay = positive(decay, "decay", most=1.0)

    def after_warmup(self, update: int, num_updates: int) -> float:
        """Return the factor; see `Schedule`."""
        passed = sum(update >= exactly(place) * num_updates for place in self.milestones)
        return float(self.decay**passed)


def _rising(milestones: Sequence[float]) -> tuple[float, ...]:
    wrong = InputError(
        f"milestones: {milestones!r} must be a list of rising numbers, each above 0 and below 1"
    )
    if not isinstance(milestones, list | tuple) or not milestones:
        raise wrong
    try:
        shares = tuple(share(milestone, "milestones") for milestone in milestones)
    except InputError:
        raise wrong from None
    if list(shares) != sorted(set(shares)) or shares[0] == 0 or shares[-1] == 1:
        raise wrong
    return shares
