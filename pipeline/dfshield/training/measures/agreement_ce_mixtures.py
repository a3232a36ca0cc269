"""Agreement clean, under attack and between the images."""

from dfshield.training.measures.agreement_ce import AgreementCE
from dfshield.training.measures.agreement_mixtures import AgreementMixtures
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure


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
        self._parts = (AgreementCE(num_steps=num_steps), AgreementMixtures(noise=noise))
        self.num_steps, self.noise = self._parts[0].num_steps, self._parts[1].noise
        self.passes = sum(part.passes for part in self._parts)

    def ask(self, chunk: Chunk) -> Agreements:
        """Ask both; see `HoldoutMeasure`."""
        attack, mixing = self._parts
        return {**attack.ask(chunk), **mixing.ask(chunk)}
