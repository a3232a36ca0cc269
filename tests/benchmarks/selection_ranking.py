"""How well candidate measures rank students, and the rule that one half of the families fixes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

KEEP_CLEAN = 0.95
HOLDOUT_CLEAN = "holdout/clean"


@dataclass(frozen=True)
class Student:
    """A student of a family.

    Attributes:
        seed: of its training; students are compared with those of the same seed.
        clean: accuracy on real test images.
        robust: accuracy under AutoAttack on them.
        works: its clean accuracy lies above the middle between a constant answer and no error.
        collapsed: it answers one class; it is never chosen.
        figures: what was measured on synthetic images.
    """

    name: str
    seed: int
    clean: float
    robust: float
    works: bool
    collapsed: bool
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A measure: a product of figures, or the sum of their ranks among the students compared."""

    figures: tuple[str, ...]
    ranks: bool = False

    def scores(self, students: Sequence[Student]) -> np.ndarray:
        table = np.array([[s.figures[key] for key in self.figures] for s in students])
        if self.ranks:
            return rankdata(table, axis=0).sum(axis=1)
        return table.prod(axis=1)


def candidates(sets: Sequence[str], questions: Sequence[str]) -> dict[str, Candidate]:
    """Return every candidate by its name.

    Each figure alone, those times clean agreement, the products of the lead, and rank sums.
    """
    found = {f"holdout/{q}": Candidate((f"holdout/{q}",)) for q in questions}
    for question in questions:
        if question != "clean":
            figures = (HOLDOUT_CLEAN, f"holdout/{question}")
            found[f"clean × {question}"] = Candidate(figures)
            found[f"ranks of clean, {question}"] = Candidate(figures, ranks=True)
    for images in sets:
        attacked = (f"{images}/clean", f"{images}/ce")
        found[f"A on {images}"] = Candidate(attacked)
        found[f"{images}/kl"] = Candidate((f"{images}/kl",))
        for mixed in dict.fromkeys((f"{images}/mixtures", "holdout/mixtures")):
            found[f"A on {images} × {mixed}"] = Candidate((*attacked, mixed))
            found[f"ranks of A on {images}, {mixed}"] = Candidate((*attacked, mixed), ranks=True)
    for question in ("mixtures-both-noisy", "mixtures-plain", "between", "noise", "flatness"):
        figures = (HOLDOUT_CLEAN, "holdout/ce", f"holdout/{question}")
        found[f"A on holdout × {question}"] = Candidate(figures)
    return found


@dataclass(frozen=True)
class Standing:
    """How well a candidate does on a family, the mean over its seeds.

    Correlations are None where none is defined. Regrets are in shares of the test images: what the
    choice loses in AutoAttack against the best student; under the bound, against the best of those
    that keep 95 % of the best clean accuracy, where the choice is made among those that keep 95 %
    of the best clean agreement.
    """

    spearman: float | None
    kendall: float | None
    spearman_works: float | None
    kendall_works: float | None
    regret: float
    regret_bound: float


def standing(candidate: Candidate, students: Sequence[Student]) -> Standing:
    groups = [[s for s in students if s.seed == seed] for seed in {s.seed: None for s in students}]
    working = [[s for s in group if s.works] for group in groups]
    return Standing(
        spearman=_mean([_correlation(spearmanr, candidate, g) for g in groups]),
        kendall=_mean([_correlation(kendalltau, candidate, g) for g in groups]),
        spearman_works=_mean([_correlation(spearmanr, candidate, g) for g in working]),
        kendall_works=_mean([_correlation(kendalltau, candidate, g) for g in working]),
        regret=fmean(_regret(candidate, g) for g in groups),
        regret_bound=fmean(_regret_under_bound(candidate, g) for g in groups),
    )


def _correlation(statistic, candidate: Candidate, students: Sequence[Student]) -> float | None:
    if len(students) < 3:
        return None
    scores, robust = candidate.scores(students), [s.robust for s in students]
    if len(set(scores)) < 2 or len(set(robust)) < 2:
        return None
    return float(statistic(scores, robust).statistic)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _regret(candidate: Candidate, students: Sequence[Student]) -> float:
    return max(s.robust for s in students) - _chosen(candidate, students).robust


def _regret_under_bound(candidate: Candidate, students: Sequence[Student]) -> float:
    rivals = [s for s in students if not s.collapsed] or students
    most = max(s.figures[HOLDOUT_CLEAN] for s in rivals)
    allowed = [s for s in students if s.figures[HOLDOUT_CLEAN] >= KEEP_CLEAN * most]
    least = KEEP_CLEAN * max(s.clean for s in students)
    best = max(s.robust for s in students if s.clean >= least)
    return best - _chosen(candidate, allowed).robust


def _chosen(candidate: Candidate, students: Sequence[Student]) -> Student:
    scores = candidate.scores(students)
    fallen = np.array([s.collapsed for s in students])
    return students[int(np.lexsort((scores, ~fallen))[-1])]


Table = Mapping[str, Mapping[str, Standing]]
"""By family, then by candidate."""


def best_rule(table: Table) -> str:
    """Return the candidate with the highest mean Spearman over the students that work.

    Among those whose mean regret is 3 points at most; if there is none, among all.
    """
    names = list(next(iter(table.values())))

    def mean_of(name: str, figure: str) -> float:
        values = (getattr(of_family[name], figure) for of_family in table.values())
        return fmean(-1.0 if value is None else value for value in values)

    good = [name for name in names if mean_of(name, "regret") <= 0.03 + 1e-9]
    return max(good or names, key=lambda n: (mean_of(n, "spearman_works"), -mean_of(n, "regret")))
