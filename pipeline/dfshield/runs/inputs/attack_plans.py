"""The attacks that a configuration asks for, before the models that some of them need are there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dfshield.attacks import ATTACKS, EOT_DRAWS, Attack
from dfshield.config import Config, VariantConfig, attack_options, expand
from dfshield.errors import InputError
from dfshield.runs.inputs.classifier_folder import describe, load_classifier, named_classifier
from dfshield.storage import Folder


@dataclass(frozen=True)
class AttackPlan:
    """An attack with its hyper-parameters, picklable.

    Attributes:
        key: where the configuration asks for it, for errors.
        name: in the registry.
        options: its hyper-parameters.
        needs: the keyword of another model that it works with, or None.
        other: the folder of that model.
    """

    key: str
    name: str
    options: Mapping[str, Any]
    needs: str | None
    other: str | None = None

    def build(self, device: torch.device | str = "cpu") -> Attack:
        """Return the attack, with the model that it needs loaded onto ``device``.

        Raises:
            InputError: where that model is named nowhere, or cannot be loaded.
        """
        if self.needs is None:
            return self._made({})
        if self.other is None:
            raise InputError(
                f"{self.key}: {self.name} needs a {self.needs}, and there is none here"
            )
        return self._made({self.needs: load_classifier(Folder.at(self.other), device=device)})

    def preview(self) -> Attack:
        """Return the attack without the model that it needs: for its label and its settings."""
        return self._made({} if self.needs is None else {self.needs: nn.Identity()})

    def described(self) -> Attack:
        """Return the attack for its full description, in which the model that it needs is named.

        The model is not loaded: its folder tells its fingerprint.

        Raises:
            InputError: as `build`.
        """
        if self.needs is None or self.other is None:
            return self.build()
        return self._made({self.needs: _Saved(describe(Folder.at(self.other)).fingerprint)})

    def averaging(self, *, every: bool) -> "AttackPlan":
        """Return the plan for a model that draws random numbers.

        AutoAttack becomes its version ``rand``, unless the configuration names one.

        Args:
            every: whether the other attacks that can average over draws do so too, unless the
                configuration says over how many.
        """
        if self.name == "autoattack":
            return replace(self, options={"version": "rand", **self.options})
        if not every or "eot" not in ATTACKS.defaults(self.name):
            return self
        return replace(self, options={"eot": EOT_DRAWS, **self.options})

    def _made(self, models: Mapping[str, nn.Module]) -> Attack:
        return ATTACKS.make(self.name, **{**self.options, **models})


class _Saved(nn.Module):
    """Stands for a classifier in the description of an attack."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__()
        self._fingerprint = fingerprint

    def fingerprint(self) -> str:
        """Return the classifier's."""
        return self._fingerprint


def attack_plans(config: Config) -> list[AttackPlan]:
    """Return the attacks of the evaluation; norm, eps and step default to the threat model's.

    Raises:
        InputError: for another model that cannot be had, naming the key.
    """
    return [
        _plan(attack, config, key=f"evaluation.attacks.{index}")
        for index, attack in enumerate(config.evaluation.attacks)
    ]


def attacks_of(config: Config) -> list[Attack]:
    """Return the attacks of the evaluation for their labels and settings, not to be run.

    Raises:
        InputError: as `attack_plans`.
    """
    return [plan.preview() for plan in attack_plans(config)]


def _plan(attack: VariantConfig, config: Config, *, key: str) -> AttackPlan:
    needs, other = ATTACKS[attack.name].needs_model, None
    options = attack_options(attack, config.threat)
    if needs in options:
        other = _named(options.pop(needs), config, key=f"{key}.{needs}")
    return AttackPlan(key, attack.name, options, needs, other)


def _named(location: object, config: Config, *, key: str) -> str:
    """Return the folder of another model; what is wrong with it shows before any work.

    Raises:
        InputError: naming the key.
    """
    if not isinstance(location, str):
        raise InputError(
            f"{key}: {location!r} must be the folder of a classifier; left out, it is the run's own"
        )
    trusted = config.teacher.trust_python
    return named_classifier(expand(location, key=key), key=key, trust_python=trusted).uri
