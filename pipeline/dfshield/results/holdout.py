"""How a student does on the synthetic hold-out: the metrics, and what they are called."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from dfshield.brief import BriefModel
from dfshield.results.evaluation import Share

AGREEMENT_CLEAN = "agreement_clean"
AGREEMENT_PGD = "agreement_pgd"
"""By this one epochs are kept, and settings chosen, unless another measure is named."""

HOLDOUT_TITLES = {
    AGREEMENT_CLEAN: "Agreement with the teacher, clean",
    AGREEMENT_PGD: "Agreement with the teacher, under PGD",
}
"""For people, of what every epoch has."""


class HoldoutMetrics(BriefModel):
    """Metrics of one epoch on the synthetic hold-out.

    Attributes:
        agreement_clean: share of images that student and teacher give the same class.
        agreement_pgd: share whose adversarial version the student still gives the class that the
            teacher gives the clean one.
        histogram: how many clean images the student assigns to each class.
        collapsed: whether one class takes nearly all of them; see `has_collapsed`.
        scores: of the measure that students are compared by, by its name; empty after epochs at
            which it was not taken, and where it is one of the agreements above.
    """

    model_config = ConfigDict(frozen=True)

    agreement_clean: Share
    agreement_pgd: Share
    histogram: tuple[int, ...]
    collapsed: bool
    scores: Mapping[str, Share] = Field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """How many images it has."""
        return sum(self.histogram)

    @property
    def largest_share(self) -> float:
        """Share of the clean images that the student gives the class that it gives most."""
        return max(self.histogram, default=0) / max(1, self.num_images)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON, without scores where there are none."""
        return self.model_dump(mode="json", exclude=None if self.scores else {"scores"})
