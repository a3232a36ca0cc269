"""Agreement clean and under PGD on the cross-entropy with the teacher's class."""

from dfshield.checks import at_least
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure
from dfshield.training.measures.questions import stands_attack


class AgreementCE(HoldoutMeasure):
    """Share agreeing on clean images × share agreeing under PGD on the cross-entropy.

    ``mean[S(x) = T(x)] · mean[S(x') = T(x)]`` where x' maximises ``CE(S(x'), T(x))`` in the ball of
    the threat model. The first factor keeps students from winning that no attack can move because
    they answer one class.

    Args:
        num_steps: gradient steps of PGD.

    Raises:
        InputError: if there is no step.
    """

    name = "agreement_ce"
    title = "Agreement: clean × attacked on cross-entropy"

    def __init__(self, *, num_steps: int = 20) -> None:
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.passes = 2 * num_steps + 1

    def ask(self, chunk: Chunk) -> Agreements:
        """Attack the images; see `HoldoutMeasure`."""
        return {
            "clean": chunk.clean == chunk.expected,
            "ce": stands_attack(chunk, self.num_steps),
        }
