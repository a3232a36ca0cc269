"""The test-time defences that a configuration asks for, and what results call them."""

import re
from typing import Any

from torch import nn

from dfshield.attacks import Attack
from dfshield.classifiers import Classifier
from dfshield.config import Config, VariantConfig
from dfshield.defences import DEFENCES, Defence, adaptation
from dfshield.errors import InputError
from dfshield.results import EvaluationResult


def defences_of(config: Config, classifier: Classifier) -> list[Defence]:
    """Return the defences of ``evaluation.defences``, of which each can take the classifier.

    Raises:
        InputError: naming the key, for one that cannot.
    """
    return [
        made_defence(wanted, classifier, key=f"evaluation.defences.{position}")
        for position, wanted in enumerate(config.evaluation.defences)
    ]


def made_defence(wanted: VariantConfig, classifier: Classifier, *, key: str) -> Defence:
    """Return a defence that can take the classifier.

    Raises:
        InputError: naming the key, for one that cannot.
    """
    defence = DEFENCES.make(wanted.name, **wanted.options)
    try:
        defence.wrap(classifier)
    except InputError as error:
        own = DEFENCES.names_option(error, wanted.name, wanted.options)
        raise InputError(f"{key}{'.' if own else ': '}{error}") from None
    return defence


def behind(classifier: Classifier, defence: Defence | None) -> nn.Module:
    """Return the classifier behind a defence; itself without one."""
    return classifier if defence is None else defence.wrap(classifier)


def defence_label(defence: Defence) -> str:
    """Return what is added to a model's name: the defence's, with the options it was given."""
    options = [f"{key}-{value}" for key, value in _given(defence).items()]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join([defence.name, *options]))


def defence_identity(defence: Defence | None) -> dict[str, Any]:
    """Return what a result depends on by its defence; nothing without one."""
    if defence is None:
        return {}
    return {"defence": {"name": defence.name, **_given(defence)}}


def told_of_defence(
    result: EvaluationResult, defence: Defence, attack: Attack | None
) -> EvaluationResult:
    """Return a result of a model behind a defence, with all that has to be said of that."""
    met = None if attack is None else adaptation(defence, attack)
    return result.model_copy(
        update={
            "defence": described_defence(defence),
            "adaptive": None if met is None else met.adaptive,
            "adaptive_how": None if met is None else met.how,
            "notes": (*result.notes, *defence.remarks(attack)),
        }
    )


def described_defence(defence: Defence) -> dict[str, Any]:
    """Return name and options of a defence as results tell them, and whether test data leak."""
    leak = {"leaks": True} if defence.leaks else {}
    return {**DEFENCES.describe(defence), **defence.contents(), **leak}


def _given(defence: Defence) -> dict[str, Any]:
    return {**DEFENCES.changed(defence), **defence.contents()}
