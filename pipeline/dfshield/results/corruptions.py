"""Accuracy of a model on corrupted images, by corruption and severity."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from pydantic import ConfigDict

from dfshield.brief import BriefModel, Shown
from dfshield.results.evaluation import DataInfo, Share
from dfshield.results.kept_json import read_kept

CORRUPTIONS_VERSION = 1


class CorruptionsResult(BriefModel):
    """Accuracy of one model on images with common corruptions, and what it takes to repeat it.

    Attributes:
        model: what the model is called.
        model_fingerprint: of architecture and weights; None for a model that has none.
        defence: name and options of the test-time defence that it stood behind, or None.
        data: the images.
        clean: accuracy on the images as they are.
        severities: that were measured.
        accuracy: by corruption, one for each severity.
        seed: of all draws.
        seconds: of computation.
        versions: of the packages that decide the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format_version: int = CORRUPTIONS_VERSION
    model: str
    model_fingerprint: str | None
    defence: dict[str, Any] | None = None
    data: DataInfo
    clean: Share
    severities: tuple[int, ...]
    accuracy: Mapping[str, tuple[Share, ...]]
    seed: int
    seconds: float
    versions: dict[str, str]

    @property
    def by_corruption(self) -> dict[str, float]:
        """Mean over the severities, by corruption."""
        return {name: fmean(shares) for name, shares in self.accuracy.items()}

    @property
    def mean(self) -> float:
        """Mean over corruptions and severities, which RobustBench lists."""
        return fmean(self.by_corruption.values())

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Return what to show of it."""
        yield "model", self.model
        yield "clean", Shown(f"{self.clean:.4f}")
        yield "mean", Shown(f"{self.mean:.4f}")
        yield "num_images", self.data.num_images
        yield "severities", self.severities

    def to_json(self) -> str:
        """Return the result as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str, *, source: str = "corruptions") -> "CorruptionsResult":
        """Return the result that `to_json` wrote.

        Args:
            text: the JSON.
            source: how errors call it, such as the path of the file.

        Raises:
            InputError: for text that is no such result, or one of a newer format.
        """
        return read_kept(cls, text, newest=CORRUPTIONS_VERSION, source=source)
