"""Agreement between the hold-out images, under noise."""

from dfshield.checks import non_negative
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure
from dfshield.training.measures.questions import agrees_between


class AgreementMixtures(HoldoutMeasure):
    """Share of noisy mixtures of two images that get the class that the teacher gives the mixture.

    ``mean[S(w a + (1 - w) b + n) = T(w a + (1 - w) b)]`` with w uniform in [0, 1] and n uniform in
    the ball of ``noise`` times the threat's eps. Mixtures lie between classes, where few synthetic
    images lie.

    Args:
        noise: radius of the noise, as a multiple of eps.

    Raises:
        InputError: for a negative radius.
    """

    name = "agreement_mixtures"
    title = "Agreement on noisy mixtures"
    passes = 2

    def __init__(self, *, noise: float | int = 2.0) -> None:
        self.noise = non_negative(noise, "noise")

    def ask(self, chunk: Chunk) -> Agreements:
        """Mix the images; see `HoldoutMeasure`."""
        return {"mixtures": agrees_between(chunk, self.noise)}
