"""Evaluations put side by side: the models of a run per attack, over its seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypeAlias

from dfshield.report.views import checked
from dfshield.results import COLLAPSE_SHARE, WORST_CASE, EvaluationResult

EvaluationView: TypeAlias = Mapping[str, Any]
"""One evaluation as it stands in its JSON: the fields of `EvaluationResult`."""

FLAG_MEANING = {  # of the flags of an `EvaluationResult`, in their order
    "collapsed": f"one class takes more than {100 * COLLAPSE_SHARE:g} % of the predictions",
    "below the floor": "a classifier that always answers the most frequent class scores higher",
    "not the standard suite": "AutoAttack ran without the parts that need more classes, so the "
    "figure does not compare with published AutoAttack figures",
    "non-finite logits": "images whose logits are NaN or infinite count as not robust",
    "randomised": "the model answers the same images differently when asked twice; attacks that "
    "follow one draw of its gradient overrate it",
    "probabilities instead of logits": "the model ends in a softmax, which flattens the gradient: "
    "its robustness is overstated",
    "test data in the defence": "the defence was fitted to test images, without their labels: its "
    "figures are too good",
    "not adaptive": "the attack does not know of the test-time defence, or cannot follow it: its "
    "figure overrates the defence",
}


ADVICE = (
    "What may help a student that is collapsed or below the floor: more surrogate images "
    "(synthesis.num_images) made with more iterations (synthesis.method.iterations); more updates, "
    "by more training.epochs or fewer batches to an update (training.gradrefine.num_batches, K: "
    "large K is too much for small networks); a smaller training.objective.lambda2; a smaller "
    "threat.eps."
)
"""What to change; the keys are those of the configuration."""


class Score(EvaluationResult):
    """One model under one attack on one set of real images, as the page shows it."""


@dataclass(frozen=True)
class Measured:
    """One model under one attack, over the seeds of the run (one score per seed)."""

    scores: tuple[Score, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, in [0, 1]."""
        return fmean(score.accuracy for score in self.scores)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single seed."""
        return stdev(score.accuracy for score in self.scores) if len(self.scores) > 1 else None

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the seeds, in [0, 1]."""
        return fmean(score.balanced_accuracy for score in self.scores)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags raised, with the number of seeds where it is not all of them."""
        total = len(self.scores)
        counts = {flag: sum(flag in s.flags for s in self.scores) for flag in FLAG_MEANING}
        return tuple(
            flag if count == total else f"{flag} ({count} of {total} seeds)"
            for flag, count in counts.items()
            if count
        )

    @property
    def prediction_shares(self) -> list[float]:
        """Share of the predictions that falls on each class, over all seeds."""
        columns = zip(*(score.prediction_histogram for score in self.scores), strict=True)
        counts = [sum(column) for column in columns]
        return [count / max(1, sum(counts)) for count in counts]


@dataclass(frozen=True)
class Comparison:
    """The models of a run under one attack.

    Attributes:
        label: of the attack.
        norm: of the threat model; None for unchanged images.
        eps: likewise.
        models: in the order of `model_names`; one that was not measured is None.
    """

    label: str
    norm: str | None
    eps: float | None
    models: Mapping[str, Measured | None]

    @property
    def teacher(self) -> Measured | None:
        """The classifier that was hardened."""
        return self.models["teacher"]

    @property
    def student(self) -> Measured | None:
        """The hardened classifier."""
        return self.models["student"]

    @property
    def scores(self) -> tuple[Score, ...]:
        """Every score of all models."""
        return tuple(s for m in self.models.values() if m for s in m.scores)

    @property
    def floor(self) -> float:
        """Accuracy of the best constant classifier on the same images."""
        return fmean(score.floor for score in self.scores)

    @property
    def is_attack(self) -> bool:
        """False for accuracy on unchanged images."""
        return self.eps is not None and self.eps > 0

    @property
    def is_worst_case(self) -> bool:
        """Whether an image counts only if it withstands every attack of the threat model."""
        return any(s.attack and s.attack.get("name") == WORST_CASE for s in self.scores)

    @property
    def title(self) -> str:
        """Attack and perturbation, ``"PGD-20 l_inf 8/255"``."""
        return f"{self.label} {self.threat}".strip()

    @property
    def threat(self) -> str:
        """The perturbation in words, ``"l_inf 8/255"``; empty for unchanged images."""
        if self.eps is None or not self.is_attack:
            return ""
        return f"{format_norm(self.norm)} {format_eps(self.eps)}".strip()


def read_scores(evaluations: Iterable[EvaluationView]) -> list[Score]:
    """Return the evaluations as scores; one that is given twice (a teacher shared by seeds) once.

    Raises:
        InputError: an evaluation lacks a field or holds a value out of range.
    """
    scores: list[Score] = []
    for evaluation in evaluations:
        score = checked(Score, evaluation, "evaluation")
        if score not in scores:
            scores.append(score)
    return scores


def said_of_data(scores: Iterable[Score]) -> list[str]:
    """Return what has to be said of the images that these scores are on, each sentence once."""
    return list(dict.fromkeys(remark for score in scores for remark in score.data.remarks))


def model_names(scores: Iterable[Score]) -> tuple[str, ...]:
    """Return the columns of a comparison: teacher, student, then the others as they appear."""
    return tuple(dict.fromkeys(["teacher", "student", *(score.model for score in scores)]))


def compare(scores: Sequence[Score]) -> list[Comparison]:
    """Return one comparison per attack, in the order in which the attacks first appear."""
    names = model_names(scores)
    groups: dict[tuple[str, str | None, float | None], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.label, score.norm, score.eps), []).append(score)
    return [
        Comparison(*key, {name: _measured(group, name) for name in names})
        for key, group in groups.items()
    ]


def _measured(scores: list[Score], model: str) -> Measured | None:
    chosen = tuple(score for score in scores if score.model == model)
    return Measured(chosen) if chosen else None


def strongest(comparisons: Iterable[Comparison]) -> Comparison | None:
    """Return the attack that leaves the student the least accuracy, or None."""
    attacks = [(c.student.accuracy, c) for c in comparisons if c.student and c.is_attack]
    return min(attacks, key=lambda pair: pair[0])[1] if attacks else None


def format_eps(eps: float) -> str:
    """Return ``"8/255"`` for multiples of 1/255, else the number (``0.2`` and ``1`` stay so)."""
    numerator = round(eps * 255)
    is_fraction = numerator > 0 and numerator % 51 != 0 and abs(eps * 255 - numerator) < 1e-4
    return f"{numerator}/255" if is_fraction else f"{eps:.4g}"


def format_norm(norm: str | None) -> str:
    """Return the norm as it is written in text: ``l_inf``, ``l_2``."""
    return {"linf": "l_inf", "l2": "l_2"}.get(norm or "", "")


def format_percent(share: float) -> str:
    """Return a share in [0, 1] as percent with one decimal; the space does not break."""
    return f"{format_points(share)}\N{NO-BREAK SPACE}%"


def format_points(share: float) -> str:
    """Return a share in [0, 1] in percentage points with one decimal, without a unit."""
    return f"{100 * share:.1f}"
