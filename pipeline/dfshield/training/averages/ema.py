"""The exponential moving average of the weights."""

from dfshield.checks import share
from dfshield.errors import InputError
from dfshield.training.averages.base import Average


class Ema(Average):
    """The exponential moving average: after each update older students count ``decay`` times less.

    After update u, from 0, the students ``s_0 ... s_u`` have the weights ``decay^(u - i)`` over
    their sum (the bias correction of Kingma and Ba 2015), so that the teacher, from which the
    training begins, has no part in the mean.

    Args:
        decay: above 0 and below 1; about ``1 / (1 - decay)`` updates count.

    Raises:
        InputError: for a ``decay`` outside (0, 1).
    """

    name = "ema"

    def __init__(self, *, decay: float | int = 0.999) -> None:
        wrong = InputError(f"decay: {decay!r} must be a number above 0 and below 1")
        try:
            self.decay = share(decay, "decay")
        except InputError:
            raise wrong from None
        if self.decay in (0, 1):
            raise wrong

    def weight(self, update: int, *, updates_per_epoch: int, epochs: int) -> float:  # noqa: ARG002
        """Return ``(1 - decay) / (1 - decay^(update + 1))``; see `Average`."""
        return float((1 - self.decay) / (1 - self.decay ** (update + 1)))
