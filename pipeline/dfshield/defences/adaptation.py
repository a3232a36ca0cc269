"""Whether an attack knows of the defence that it meets, and how."""

from dataclasses import dataclass

from dfshield.attacks import Attack
from dfshield.defences.base import Defence

UNAWARE = "transfer: images made on the model without the defence"
QUERIES = "queries to the defended model"
THROUGH = "gradient through the defence"
ONE_DRAW = "single draws, not their mean (EOT)"
NO_SURROGATE = "a gradient that is not that of what the defence computes, without BPDA"


@dataclass(frozen=True)
class Adaptation:
    """How an attack meets a defence.

    Attributes:
        adaptive: whether it attacks what the defended model computes. What is not adaptive
            overrates the defence.
        how: in a few words.
    """

    adaptive: bool
    how: str


def adaptation(defence: Defence, attack: Attack) -> Adaptation:
    """Return how an attack meets a defence (Athalye et al. 2018; Tramer et al. 2020).

    A defence that draws random numbers has to be attacked over the mean of its draws (EOT), one
    that is not differentiable by its answers alone, or with a gradient put in the place of its own
    (BPDA). What is made on the model without the defence knows of nothing.
    """
    if not attack.sees_model:
        return Adaptation(False, UNAWARE)
    adaptive, said = True, []
    if defence.randomised:
        averaged = attack.draws > 1
        adaptive &= averaged
        said.append(f"EOT over {attack.draws} draws" if averaged else ONE_DRAW)
    if not attack.needs_gradient:
        said.append(QUERIES)
    elif defence.differentiable:
        said.append(THROUGH)
    elif defence.bpda is not None:
        said.append(f"BPDA ({defence.bpda})")
    else:
        adaptive = False
        said.append(NO_SURROGATE)
    return Adaptation(adaptive, ", ".join(said))
