"""Agreement on the hold-out images as they are."""

from dfshield.results import AGREEMENT_CLEAN, HOLDOUT_TITLES
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure


class AgreementClean(HoldoutMeasure):
    """Share of the images that student and teacher give the same class."""

    name = AGREEMENT_CLEAN
    title = HOLDOUT_TITLES[AGREEMENT_CLEAN]

    def __init__(self) -> None:
        """Take no option."""

    def ask(self, chunk: Chunk) -> Agreements:
        """Compare the answers; see `HoldoutMeasure`."""
        return {"clean": chunk.clean == chunk.expected}
