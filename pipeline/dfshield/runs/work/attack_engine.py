"""What an attack of the evaluation is computed with."""

from collections.abc import Callable

from dfshield.attacks import Attack
from dfshield.classifiers import Classifier
from dfshield.config import EngineConfig
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import (
    Abilities,
    abilities_here,
    multiply_adds,
    planned_engine,
)


def attack_engine(
    here: Engine,
    classifier: Classifier,
    attack: Attack | None,
    num_images: int,
    *,
    can: Callable[[], Abilities] = abilities_here,
) -> Engine:
    """Return what an attack on so many images is computed with: float32 always.

    One that says how many passes it takes, as PGD does, is compiled where it is long enough; others
    go on with the images that are left, whose number changes.

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
