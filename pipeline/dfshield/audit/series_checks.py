"""Checks that compare a series of attacks: each has to be at least as strong as those before it."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations

from dfshield.audit.attack_checks import MOST_STEPS, format_comparison, pgd
from dfshield.audit.checks import ATHALYE, CARLINI, Check, Verdict
from dfshield.audit.comparison import Broken, compare, robust_share, worst
from dfshield.audit.subject import Subject

STEPS = (1, 2, 5, 10, 20, 50, MOST_STEPS)
EPS_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def more_steps(subject: Subject) -> Check:
    """Check that more steps of PGD are at least as strong as fewer, for 1 to 100 steps."""
    return _series(
        "more-steps",
        "More steps are at least as strong",
        "PGD-{}".format,
        STEPS,
        [subject.broken(pgd(subject, steps)) for steps in STEPS],
        axis="steps",
        source=CARLINI,
    )


def larger_eps(subject: Subject) -> Check:
    """Check that a larger ball is attacked at least as well as a smaller one."""
    radii = [factor * subject.eps for factor in EPS_FACTORS]
    if subject.norm == "linf":
        radii = [eps for eps in radii if eps <= 1]
    attacks = [
        subject.attack("pgd", eps=_as_eps(eps), num_steps=20, random_start=False) for eps in radii
    ]
    return _series(
        "larger-eps",
        "A larger eps is at least as strong",
        "eps {:.3g}".format,
        radii,
        [subject.broken(attack) for attack in attacks],
        axis="eps",
        source=ATHALYE,
    )


def _as_eps(eps: float) -> float | str:
    """Return a radius as attacks take it: above 1 as a fraction."""
    numerator, denominator = Fraction(eps).limit_denominator(10**6).as_integer_ratio()
    return eps if eps <= 1 else f"{numerator}/{denominator}"


def _series(
    key: str,
    title: str,
    name: Callable[[float | int], str],
    values: Sequence[float | int],
    outcomes: Sequence[Broken],
    *,
    axis: str,
    source: str,
) -> Check:
    """Return the check that every attack of a series is at least as strong as those before it."""
    verdicts: list[Verdict] = []
    findings = []
    for (weak, weaker), (strong, stronger) in combinations(zip(values, outcomes, strict=True), 2):
        found = compare(stronger, weaker)
        verdicts.append(found.verdict)
        if found.verdict != "pass":
            findings.append(format_comparison(name(strong), stronger, name(weak), weaker, found))
    shares = [robust_share(outcome) for outcome in outcomes]
    course = ", ".join(f"{value:.3g}: {s:.1%}" for value, s in zip(values, shares, strict=True))
    return Check(
        key=key,
        title=title,
        verdict=worst(verdicts),
        finding="; ".join(findings) or f"accuracy by {axis}: {course}",
        evidence={axis: list(values), "accuracy": shares},
        source=source,
    )
