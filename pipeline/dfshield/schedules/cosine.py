"""A learning rate that falls along half a cosine."""

import math

from dfshield.checks import share
from dfshield.schedules.base import Schedule


class Cosine(Schedule):
    """The learning rate falls along half a cosine, without restarts (Loshchilov and Hutter 2017).

    Update u of n after the warm-up has the factor ``final + (1 - final) (1 + cos(pi u / n)) / 2``.

    Args:
        final: factor that the rate falls to, in [0, 1].

    Raises:
        InputError: for a number outside [0, 1].
    """

    name = "cosine"

    def __init__(self, *, final: float | int = 0.0, warmup: float | int = 0.0) -> None:
        super().__init__(warmup=warmup)
        self.final = share(final, "final")

    def after_warmup(self, update: int, num_updates: int) -> float:
        """Return the factor; see `Schedule`."""
        fallen = (1 + math.cos(math.pi * update / num_updates)) / 2
        return self.final + (1 - self.final) * fallen
