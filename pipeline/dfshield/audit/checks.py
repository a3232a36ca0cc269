"""What an audit is made of: checks with a verdict, and the report that holds them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict

from dfshield.attacks import Norm
from dfshield.brief import BriefModel, Shown
from dfshield.results import DataInfo, read_kept

FORMAT_VERSION = 1

Verdict = Literal["pass", "warn", "fail", "not run"]

Evidence: TypeAlias = dict[str, Any]
"""Numbers, texts and lists of them, by name: what JSON keeps as it is."""

ATHALYE = "Athalye et al. (2018), section 3.1"
CARLINI = "Carlini et al. (2019)"


class Check(BriefModel):
    """One line of the audit.

    Attributes:
        key: a name that stays the same from report to report.
        title: what has to hold, in words.
        verdict: ``pass``; ``warn``, worth a look; ``fail``: figures of robustness against
            gradient attacks cannot be believed; ``not run``: what it needs was not given.
        finding: what was found, in one sentence with its numbers.
        evidence: the numbers.
        source: who asks for this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    title: str
    verdict: Verdict
    finding: str
    evidence: Evidence
    source: str

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Return what to show of it."""
        yield from (("key", self.key), ("verdict", self.verdict), ("finding", self.finding))


class Landscape(BriefModel):
    """The loss around the images: mean over them, on a grid of a plane, and along its two axes.

    At ``x + u * r * g + v * r * d``: g the direction of steepest ascent of the cross-entropy at x,
    d a random direction of the same size, r the radius of the ball, clipped to [0, 1].

    Attributes:
        positions: of u and v, in [-1, 1].
        surface: ``surface[i][j]`` is the mean loss at ``v = positions[i], u = positions[j]``.
        line_positions: as ``positions``, finer.
        along_gradient: the loss of single images along u, one list per image.
        along_random: the same along v.
        gradient_agreement: per image, the cosine between its gradient and the one at a random point
            a tenth of the radius away; 0 where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positions: tuple[float, ...]
    surface: tuple[tuple[float, ...], ...]
    line_positions: tuple[float, ...]
    along_gradient: tuple[tuple[float, ...], ...]
    along_random: tuple[tuple[float, ...], ...]
    gradient_agreement: tuple[float, ...]


class AuditReport(BriefModel):
    """All checks of one model on one set of images, and everything needed to repeat them.

    Attributes:
        model: what the model is called.
        model_fingerprint: of architecture and weights; None for a model that has none.
        data: the images.
        norm: of the threat model.
        eps: its radius, on the [0, 1] scale of the images.
        seed: of the audit.
        checks: in the order they are read.
        landscape: the loss around some of the images.
        seconds: of computation.
        versions: of the packages that decide the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format_version: int = FORMAT_VERSION
    model: str
    model_fingerprint: str | None
    data: DataInfo
    norm: Norm
    eps: float
    seed: int
    checks: tuple[Check, ...]
    landscape: Landscape
    seconds: float
    versions: Mapping[str, str]

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Return what to show of it; ``print`` shows the lines as well."""
        yield from (("model", self.model), ("verdict", self.verdict), ("norm", self.norm))
        yield "eps", Shown(f"{self.eps:.4g}")
        yield "num_images", self.data.num_images
        for verdict in ("fail", "warn", "not run"):
            keys = [check.key for check in self.checks if check.verdict == verdict]
            if keys:
                yield verdict.replace(" ", "_"), keys

    def __str__(self) -> str:
        """Return verdict, key and finding of every check, a line each."""
        lines = [f"{check.verdict:8}{check.key:19}{check.finding}" for check in self.checks]
        return "\n".join([repr(self), *lines])

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of any check."""
        found = {check.verdict for check in self.checks}
        return "fail" if "fail" in found else "warn" if "warn" in found else "pass"

    def check(self, key: str) -> Check:
        """Return the check of this key.

        Raises:
            KeyError: if there is none.
        """
        for check in self.checks:
            if check.key == key:
                return check
        raise KeyError(key)

    def failed(self) -> Sequence[str]:
        """Return the keys of the checks that fail."""
        return [check.key for check in self.checks if check.verdict == "fail"]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str, *, source: str = "audit") -> "AuditReport":
        """Return the report that `to_json` wrote.

        Args:
            text: the JSON.
            source: how errors call it, such as the path of the file.

        Raises:
            InputError: for text that is no such report, or one of a newer format.
        """
        return read_kept(cls, text, newest=FORMAT_VERSION, source=source)
