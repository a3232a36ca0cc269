"""The families of methods to choose from by name; `dfshield methods` lists them."""

from collections.abc import Callable
from typing import Any

from dfshield.families import Family


def attacks() -> Family[Any]:
    """Return the family of ``evaluation.attacks``."""
    from dfshield.attacks import ATTACKS  # here, since torch loads slowly; so do the others

    return ATTACKS


def augment() -> Family[Any]:
    """Return the family of ``synthesis.augment``."""
    from dfshield.synthesis.augmentations import AUGMENTATIONS

    return AUGMENTATIONS


def augmentations() -> Family[Any]:
    """Return the family of ``training.augmentations``."""
    from dfshield.training.augmentations import AUGMENTATIONS

    return AUGMENTATIONS


def averages() -> Family[Any]:
    """Return the family of ``training.average``."""
    from dfshield.training.averages import AVERAGES

    return AVERAGES


def baselines() -> Family[Any]:
    """Return the family of ``method``."""
    from dfshield.baselines import BASELINES

    return BASELINES


def corruptions() -> Family[Any]:
    """Return the family of ``evaluation.corruptions.names``."""
    from dfshield.evaluation.corruptions import CORRUPTIONS

    return CORRUPTIONS


def defences() -> Family[Any]:
    """Return the family of ``evaluation.defences``."""
    from dfshield.defences import DEFENCES

    return DEFENCES


def diversity() -> Family[Any]:
    """Return the family of ``synthesis.diversity``."""
    from dfshield.diversity import DIVERSITY

    return DIVERSITY


def features() -> Family[Any]:
    """Return the family of ``--features``."""
    from dfshield.diversity.features import FEATURE_SPACES

    return FEATURE_SPACES


def measures() -> Family[Any]:
    """Return the family of ``training.measure``."""
    from dfshield.training.measures import MEASURES

    return MEASURES


def objectives() -> Family[Any]:
    """Return the family of ``training.objective``."""
    from dfshield.training.objectives import OBJECTIVES

    return OBJECTIVES


def reference() -> Family[Any]:
    """Return the family of ``dfshield diversity --metric``."""
    from dfshield.diversity.reference import REFERENCE

    return REFERENCE


def schedules() -> Family[Any]:
    """Return the family of ``training.schedule``."""
    from dfshield.schedules import SCHEDULES

    return SCHEDULES


def synthesizers() -> Family[Any]:
    """Return the family of ``synthesis.method``."""
    from dfshield.synthesis import SYNTHESIZERS

    return SYNTHESIZERS


def trackers() -> Family[Any]:
    """Return the family of ``trackers``."""
    from dfshield.trackers import TRACKERS

    return TRACKERS


FAMILIES: dict[str, Callable[[], Family[Any]]] = {
    "attacks": attacks,
    "augment": augment,
    "augmentations": augmentations,
    "averages": averages,
    "baselines": baselines,
    "corruptions": corruptions,
    "defences": defences,
    "diversity": diversity,
    "features": features,
    "measures": measures,
    "objectives": objectives,
    "reference": reference,
    "schedules": schedules,
    "synthesizers": synthesizers,
    "trackers": trackers,
}
"""All families. A new one is a function and a line here."""
