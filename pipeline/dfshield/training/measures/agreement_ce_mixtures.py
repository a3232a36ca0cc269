"""Agreement clean, under attack and between the images."""

from dfshield.checks import at_least, non_negative
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure
from dfshield.training.measures.questions import agrees_between, stands_attack


class AgreementCEMixtures(HoldoutMeasure):
    """The product of `agreement_ce` and `agreement_mixtures`: three shares.

    Args:
        num_steps: gradient steps of PGD.
        noise: radius of the noise on mixtures, as a multiple of eps.

    Raises:
        InputError: if there is no step, or for a negative radius.
    """

    name = "agreement_ce_mixtures"
    title = "Agreement: clean × attacked on cross-entropy × noisy mixtures"

    def __init__(self, *, num_steps: int = 20, noise: float | int = 2.0) -> None:
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.noise = non_negative(noise, "noise")
        self.passes = 2 * num_steps + 3

    def ask(self, chunk: Chunk) -> Agreements:
        """Ask all three; see `HoldoutMeasure`."""
        return {
            "clean": chunk.clean == chunk.expected,
            "ce": stands_attack(chunk, self.num_steps),
            "mixtures": agrees_between(chunk, self.noise),
        }
