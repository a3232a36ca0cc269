"""What an attack of the evaluation is computed with."""

from collections.abc import Callable

from dfshield.attacks import Attack
from dfshield.classifiers import Classifier
from dfshield.config import EngineConfig
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import (
    COMPILING_PAYS,
    Abilities,
    abilities_here,
    multiply_adds,
    planned_engine,
)

SOON = 0.1
"""After what share of the work that compiling pays for a slice of unknown length is compiled."""


def attack_engine(
    here: Engine,
    classifier: Classifier,
    attack: Attack | None,
    num_images: int,
    *,
    can: Callable[[], Abilities] = abilities_here,
) -> Engine:
    """Return what an attack on so many images is computed with: float32 always.

    One that says how many passes it takes is compiled where that is enough; see `plain_images`.

    Args:
        here: the plain engine of the workers.
        classifier: under attack.
        attack: None for clean images.
        num_images: how many.
        can: see `planned_engine`.
    """
    passes = None if attack is None else attack.passes
    if passes is None:
        return here
    work = passes * num_images * multiply_adds(classifier)
    return planned_engine(here, EngineConfig(precision="float32"), work=work, can=can)


def plain_images(classifier: Classifier, attack: Attack) -> dict[bool, int]:
    """Return the images that a compiled attack computes plainly first, slice by slice.

    Of passes with a gradient (True) and of those without (False), for `CompiledInTime`. PGD, whose
    passes are known, is compiled at once, but for its few passes without a gradient. AutoAttack may
    break all images in a few passes, or not; it is compiled after a tenth of what pays for it.
    """
    most = SOON * COMPILING_PAYS / max(1.0, multiply_adds(classifier))
    return {True: int(most / 2) if attack.ends_early else 0, False: int(most)}
