"""How a student does on the synthetic hold-out: the metrics, and what they are called."""

from pydantic import ConfigDict

from dfshield.brief import BriefModel
from dfshield.results.evaluation import Share

AGREEMENT_CLEAN = "agreement_clean"
AGREEMENT_PGD = "agreement_pgd"
"""By this one epochs are kept and, unless a sweep says otherwise, settings are chosen."""


class HoldoutMetrics(BriefModel):
    """Metrics of one epoch on the synthetic hold-out.

    Attributes:
        agreement_clean: share of images that student and teacher give the same class.
        agreement_pgd: share whose adversarial version the student still gives the class that the
            teacher gives the clean one.
        histogram: how many clean images the student assigns to each class.
        collapsed: whether one class takes nearly all of them; see `has_collapsed`.
    """

    model_config = ConfigDict(frozen=True)

    agreement_clean: Share
    agreement_pgd: Share
    histogram: tuple[int, ...]
    collapsed: bool

    @property
    def num_images(self) -> int:
        """How many images it has."""
        return sum(self.histogram)

    @property
    def largest_share(self) -> float:
        """Share of the clean images that the student gives the class that it gives most."""
        return max(self.histogram, default=0) / max(1, self.num_images)
