"""Agreement under the attack that every epoch makes."""

from dfshield.results import AGREEMENT_PGD, HOLDOUT_TITLES
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure


class AgreementPGD(HoldoutMeasure):
    """Share of the images whose class stands under PGD on ``KL(S(x) || S(x'))``.

    The attack is that of the training with its default loss, the class the teacher's of the clean
    image. It needs nothing beyond what every epoch measures. It ranks students by how far they lie
    from the teacher in KL, which is not how real attacks rank them.
    """

    name = AGREEMENT_PGD
    title = HOLDOUT_TITLES[AGREEMENT_PGD]

    def __init__(self) -> None:
        """Take no option."""

    def ask(self, chunk: Chunk) -> Agreements:
        """Compare the answers; see `HoldoutMeasure`."""
        return {"attacked": chunk.attacked == chunk.expected}
