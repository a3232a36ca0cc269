"""Agreement clean and under PGD on the cross-entropy with the teacher's class."""

from dfshield.checks import at_least
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.measures.answers import classes_of
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure


class AgreementCE(HoldoutMeasure):
    """Share agreeing on clean images × share agreeing under PGD on the cross-entropy.

    ``mean[S(x) = T(x)] · mean[S(x') = T(x)]`` where x' maximises ``CE(S(x'), T(x))`` in the ball of
    the threat model, from a uniform start in it, by steps of a quarter of eps (l_inf; l_2 as in
    `InnerMaximization`). The first factor keeps collapsed students from winning, which no attack
    can move.

    Args:
        num_steps: gradient steps of PGD.

    Raises:
        InputError: if there is no step.
    """

    name = "agreement_ce"
    title = "Agreement: clean × attacked on cross-entropy"

    def __init__(self, *, num_steps: int = 20) -> None:
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.passes = 2.0 * num_steps + 1

    def ask(self, chunk: Chunk) -> Agreements:
        """Attack the images; see `HoldoutMeasure`."""
        attack = InnerMaximization(
            eps=chunk.eps, norm=chunk.norm, num_steps=self.num_steps, loss="ce", start="uniform"
        )
        adversarial = attack(
            chunk.student, chunk.images, generator=chunk.rng, labels=chunk.expected
        )
        attacked = classes_of(chunk.student, adversarial)
        return {"clean": chunk.clean == chunk.expected, "ce": attacked == chunk.expected}
