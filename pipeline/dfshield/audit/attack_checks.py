"""Checks that compare two attacks: what ought to be stronger has to be.

An attack is *at least as strong* as another one unless McNemar's exact test on the images that only
one of the two breaks rejects it (`dfshield.audit.comparison`).
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from torch import nn

from dfshield.attacks import Attack, make_attack
from dfshield.audit.checks import ATHALYE, CARLINI, Check, Verdict
from dfshield.audit.comparison import (
    FAIL_BELOW,
    WARN_BELOW,
    Broken,
    Comparison,
    compare,
    robust_share,
    worst,
)
from dfshield.audit.subject import Subject

MOST_STEPS = 100
UNBOUNDED_STEPS = 200
LOSSES = ("ce", "cw", "dlr", "kl")
NOISE_DRAWS = 20
SQUARE_QUERIES = 1000
UNBOUNDED_LEFT = 0.02
"""Share of images that may withstand an attack without bound before it counts as failed."""
LOSS_GAP_WARN, LOSS_GAP_FAIL = 0.05, 0.10
"""How much more PGD on another loss may find than on the cross-entropy, as a share of images."""
AUTOATTACK_GAP_WARN, AUTOATTACK_GAP_FAIL = 0.08, 0.15
"""How far AutoAttack may come below PGD on all losses together: honest models, a few points."""


def pgd(subject: Subject, num_steps: int) -> Attack:
    """Return PGD of so many steps of eps/4 from the image itself, on the cross-entropy."""
    return subject.attack("pgd", num_steps=num_steps, random_start=False)


def white_box(subject: Subject) -> Broken:
    """Return which images the gradient attacks on the model itself break, all together."""
    attacks = [pgd(subject, steps) for steps in (20, MOST_STEPS)]
    attacks += loss_attacks(subject).values()
    return union([subject.broken(attack) for attack in attacks])


def union(outcomes: Sequence[Broken]) -> Broken:
    """Return which images any of several attacks breaks."""
    return reduce(np.logical_or, outcomes)


def single_step(subject: Subject) -> Check:
    """Check that FGSM, one step of length eps, is no stronger than PGD-20."""
    once, often = subject.broken(subject.attack("fgsm")), subject.broken(pgd(subject, 20))
    found = compare(often, once)
    return Check(
        key="single-step",
        title="A single step is weaker than many",
        verdict=found.verdict,
        finding=format_comparison("PGD-20", often, "FGSM", once, found),
        evidence={"pgd_20": robust_share(often), "fgsm": robust_share(once), **_evidence(found)},
        source=ATHALYE,
    )


def unbounded(subject: Subject) -> Check:
    """Check that PGD breaks every image where the range [0, 1] is its only bound."""
    attack = make_attack("pgd-unbounded", num_steps=UNBOUNDED_STEPS)
    left = int((~subject.broken(attack)).sum())
    verdict: Verdict = "pass"
    if left:
        verdict = "fail" if left > max(1, UNBOUNDED_LEFT * len(subject)) else "warn"
    return Check(
        key="unbounded",
        title="Without a bound nothing stands",
        verdict=verdict,
        finding=f"{left} of {len(subject)} images withstand {UNBOUNDED_STEPS} steps without bound",
        evidence={"standing": left, "images": len(subject), "steps": UNBOUNDED_STEPS},
        source=ATHALYE,
    )


def random_noise(subject: Subject) -> Check:
    """Check that random noise, the worst of many draws, is no stronger than gradient attacks."""
    return _at_least_as_strong(
        subject,
        subject.attack("noise", samples=NOISE_DRAWS),
        key="noise",
        title="Random noise is weaker than an attack",
        evidence={"draws": NOISE_DRAWS},
        source=ATHALYE,
    )


def black_box(subject: Subject) -> Check:
    """Check that Square, which sees logits alone, is no stronger than gradient attacks."""
    return _at_least_as_strong(
        subject,
        subject.attack("square", queries=SQUARE_QUERIES),
        key="black-box",
        title="Black-box attacks are no stronger than white-box attacks",
        evidence={"queries": SQUARE_QUERIES},
        source=ATHALYE,
    )


def _at_least_as_strong(
    subject: Subject,
    weaker: Attack,
    *,
    key: str,
    title: str,
    evidence: Mapping[str, float | int],
    source: str,
) -> Check:
    """Return the check that the gradient attacks together are at least as strong as another one."""
    gradient, other = white_box(subject), subject.broken(weaker)
    found = compare(gradient, other)
    return Check(
        key=key,
        title=title,
        verdict=found.verdict,
        finding=format_comparison("gradient attacks", gradient, weaker.label, other, found),
        evidence={
            "white_box": robust_share(gradient),
            "other": robust_share(other),
            **evidence,
            **_evidence(found),
        },
        source=source,
    )


def loss_attacks(subject: Subject) -> dict[str, Attack]:
    """Return PGD-20 on every loss that is defined for so many classes, by the loss."""
    losses = [loss for loss in LOSSES if loss != "dlr" or subject.num_classes >= 3]
    # From a random start: at the image itself the gradient of the KL divergence is zero.
    return {loss: subject.attack("pgd", num_steps=20, loss=loss) for loss in losses}


def losses_agree(subject: Subject) -> Check:
    """Check that PGD-20 finds on no loss far more than on the cross-entropy.

    Only this direction means masking: the cross-entropy is what the other lines follow, and where a
    margin shows far more, its gradient is hidden (by logits that saturate the softmax, say). That
    a loss finds less does not: DLR rises with the ratio of two margins, and the KL divergence does
    not know the label, so that both are often weaker on honest models.
    """
    outcomes = {name: subject.broken(attack) for name, attack in loss_attacks(subject).items()}
    shares = {name: robust_share(outcome) for name, outcome in outcomes.items()}
    best = min((name for name in shares if name != "ce"), key=shares.__getitem__)
    found = compare(outcomes["ce"], outcomes[best])
    gap = shares["ce"] - shares[best]
    verdict: Verdict = "pass"
    if gap > LOSS_GAP_FAIL and found.p_value < FAIL_BELOW:
        verdict = "fail"
    elif gap > LOSS_GAP_WARN and found.p_value < WARN_BELOW:
        verdict = "warn"
    values = ", ".join(f"{name.upper()} {share:.1%}" for name, share in shares.items())
    return Check(
        key="losses",
        title="No loss finds far more than cross-entropy",
        verdict=verdict,
        finding=f"accuracy under PGD-20 by loss: {values}",
        evidence={
            "losses": list(shares),
            "accuracy": list(shares.values()),
            "gap": gap,
            "p_value": found.p_value,
        },
        source=CARLINI,
    )


def transfer(subject: Subject, source: nn.Module | None) -> Check:
    """Check that images made against another model are no stronger than those made against this."""
    key, title = "transfer", "Transferred attacks are no stronger than white-box attacks"
    if source is None:
        reason = "no other model was given to make adversarial images with"
        return _not_run(key, title, reason, source=CARLINI)
    return _at_least_as_strong(
        subject,
        subject.attack("transfer", source=source),
        key=key,
        title=title,
        evidence={},
        source=CARLINI,
    )


def autoattack_gap(subject: Subject, *, wanted: bool) -> Check:
    """Check that AutoAttack comes out close below PGD, and not above PGD-100.

    The gap is taken to what PGD finds on all losses together: what the cross-entropy alone misses
    is the matter of `losses_agree`.
    A model that draws random numbers gets AutoAttack's version ``rand``, which averages over them.
    """
    key, title, reference = (
        "autoattack-gap",
        "AutoAttack finds little that PGD does not",
        "Croce and Hein (2020)",
    )
    if not wanted:
        return _not_run(key, title, "AutoAttack was left out", source=reference)
    version = "rand" if subject.randomised else "standard"
    attack = subject.attack("autoattack", version=version)
    auto, steps = subject.broken(attack), subject.broken(pgd(subject, MOST_STEPS))
    found = compare(auto, steps)
    white = white_box(subject)
    gap = robust_share(white) - robust_share(auto)
    verdict: Verdict = "pass"
    if gap > AUTOATTACK_GAP_FAIL:
        verdict = "fail"
    elif gap > AUTOATTACK_GAP_WARN:
        verdict = "warn"
    notes = list(dict.fromkeys(note for part in subject.slices(attack) for note in part.notes))
    return Check(
        key=key,
        title=title,
        verdict=worst([verdict, found.verdict]),
        finding=(
            f"accuracy {robust_share(white):.1%} under PGD on all losses, "
            f"{robust_share(auto):.1%} under AutoAttack ({version}): a gap of {100 * gap:.1f} "
            f"points; {found.weaker_alone} images fall to PGD-{MOST_STEPS} alone"
        ),
        evidence={
            "pgd": robust_share(steps),
            "white_box": robust_share(white),
            "autoattack": robust_share(auto),
            "gap": gap,
            "version": version,
            "notes": notes,
            **_evidence(found),
        },
        source=reference,
    )


def _not_run(key: str, title: str, reason: str, *, source: str) -> Check:
    return Check(
        key=key, title=title, verdict="not run", finding=reason, evidence={}, source=source
    )


def format_comparison(
    stronger: str, broken: Broken, weaker: str, other: Broken, found: Comparison
) -> str:
    """Return a comparison of two attacks in words."""
    return (
        f"accuracy {robust_share(broken):.1%} under {stronger}, {robust_share(other):.1%} under "
        f"{weaker}, which alone breaks {found.weaker_alone} images (p = {found.p_value:.2g})"
    )


def _evidence(found: Comparison) -> dict[str, float | int]:
    return {
        "stronger_alone": found.stronger_alone,
        "weaker_alone": found.weaker_alone,
        "p_value": found.p_value,
    }
