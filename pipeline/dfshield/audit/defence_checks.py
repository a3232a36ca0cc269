"""Checks of a model behind a test-time defence: do the attacks of its evaluation know of that?"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from dfshield.attacks import EOT_DRAWS, Attack
from dfshield.audit.attack_checks import loss_attacks
from dfshield.audit.checks import ATHALYE, Check, Evidence, Verdict
from dfshield.audit.comparison import robust_share
from dfshield.audit.subject import Subject
from dfshield.defences import Defence

TRAMER = "Tramer et al. (2020)"
NUM_DEFENCE_CHECKS = 2
"""Lines that an audit of a defended model has beside the others."""


@dataclass(frozen=True)
class Evaluated:
    """How a model behind a defence is evaluated.

    Attributes:
        defence: what it stands behind.
        attacks: those whose figures are shown.
        alone: the model without the defence.
    """

    defence: Defence
    attacks: Sequence[Attack]
    alone: nn.Module

    @property
    def averaging(self) -> list[str]:
        """The labels of the attacks that average over what the defence draws."""
        return [a.label for a in self.attacks if a.sees_model and a.draws > 1]


def draws_averaged(subject: Subject, evaluated: Evaluated) -> Check:
    """Check that a defence that draws random numbers is attacked over their mean (EOT).

    The numbers are those of PGD-20 on the sample, on single draws and over twenty.
    """
    subject.slices(None)  # asks twice, and so tells a model that draws
    verdict: Verdict = "pass"
    finding, evidence = "neither the model nor its defence draws", Evidence(draws=1)
    if evaluated.defence.randomised or subject.randomised:
        single = robust_share(subject.broken(loss_attacks(subject)["ce"]))
        many = subject.attack("pgd", num_steps=20, eot=EOT_DRAWS)
        mean = robust_share(subject.broken(many))
        averaging = evaluated.averaging
        verdict = "pass" if averaging else "fail"
        finding = (
            f"accuracy {single:.1%} under PGD-20 on single draws, {mean:.1%} over {EOT_DRAWS}; "
            f"the evaluation averages in {', '.join(averaging) or 'none of its attacks'}"
        )
        evidence = {"draws": EOT_DRAWS, "single": single, "mean": mean, "averaging": averaging}
    return Check(
        key="defence-draws",
        title="A defence that draws is attacked over its draws (EOT)",
        verdict=verdict,
        finding=finding,
        evidence=evidence,
        source=ATHALYE,
    )


def gradient_followed(subject: Subject, evaluated: Evaluated) -> Check:
    """Check that an attack follows a gradient through the defence, its own or one in its place.

    Without a surrogate of a step that is not differentiable (BPDA), transferred images and attacks
    that ask for answers are what is left; an evaluation that has neither fails.
    """
    defence = evaluated.defence
    aware = [attack for attack in evaluated.attacks if attack.sees_model]
    following = [attack.label for attack in aware if attack.needs_gradient]
    others = [a.label for a in evaluated.attacks if not (a.sees_model and a.needs_gradient)]
    through = "its own gradient" if defence.differentiable else f"BPDA ({defence.bpda})"
    verdict: Verdict = "pass"
    if not defence.differentiable and defence.bpda is None:
        verdict = "warn" if others else "fail"
        finding = f"{defence.name} is not differentiable and nothing stands in for its gradient: "
        finding += f"what is left is {', '.join(others) or 'no attack of the evaluation'}"
    elif not aware:
        verdict = "fail"
        finding = f"no attack of the evaluation is made on the model behind {defence.name}"
    else:
        finding = f"{through} is followed by {', '.join(following) or 'none'}"
        verdict = "pass" if following else "warn"
    unaware = subject.attack("transfer", source=evaluated.alone)
    shares = [robust_share(subject.broken(a)) for a in (unaware, loss_attacks(subject)["ce"])]
    finding += (
        f"; accuracy {shares[0]:.1%} under PGD-20 on the model without it, {shares[1]:.1%} under "
        "PGD-20 on both"
    )
    return Check(
        key="defence-gradient",
        title="The attacks follow a gradient through the defence (its own, or BPDA)",
        verdict=verdict,
        finding=finding,
        evidence={
            "differentiable": defence.differentiable,
            "bpda": defence.bpda,
            "following": following,
            "unaware": shares[0],
            "aware": shares[1],
        },
        source=TRAMER,
    )
