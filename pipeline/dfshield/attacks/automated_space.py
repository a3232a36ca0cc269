"""What the attack `Automated` searches: attacks, and the ranges of their options."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.attacks.family import ATTACKS, make_attack
from dfshield.checks import one_of
from dfshield.errors import InputError

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn evenly in their logarithm; whole ones if these are.

    Attributes:
        low: the least.
        high: the largest.
        of_eps: whether they are shares of the radius; what they stand for is at most 1.
    """

    low: float | int
    high: float | int
    of_eps: bool = False


Searched: TypeAlias = Range | tuple[str, ...]

SPACE: Mapping[str, Mapping[str, Searched]] = {
    "fgsm": {},
    "pgd": {
        "loss": ("ce", "cw", "dlr", "l1", "logit"),
        "num_steps": Range(20, 200),
        "step_size": Range(0.03, 0.5, of_eps=True),
    },
    "apgd-ce": {"num_steps": Range(20, 200), "restarts": Range(1, 3)},
    "apgd-dlr": {"num_steps": Range(20, 200), "restarts": Range(1, 3)},
    "apgd-t": {"num_steps": Range(20, 100), "targets": Range(1, 9)},
    "fab-t": {"num_steps": Range(20, 100), "targets": Range(1, 9)},
    "square": {"queries": Range(500, 5000)},
    "spsa": {"num_steps": Range(5, 50), "samples": Range(16, 128)},
}
"""Options of every attack that are searched unless they are given."""


@dataclass(frozen=True)
class Candidate:
    """An attack with all its options, but for the threat model's.

    Attributes:
        name: in the registry.
        options: sorted by their names.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        """Return name and options for people."""
        told = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self.options
        )
        return f"{self.name} ({told})" if told else self.name

    def attack(self, *, eps: float | int | str, norm: Norm) -> Attack:
        """Return it on a threat model."""
        return make_attack(self.name, eps=eps, norm=norm, **dict(self.options))


@dataclass(frozen=True)
class Choice:
    """An attack of which some options are given; the others in `SPACE` are searched.

    Attributes:
        name: of the attack.
        given: its options.
    """

    name: str
    given: Mapping[str, Any]

    @property
    def open(self) -> dict[str, Searched]:
        """The options that are searched."""
        return {key: kind for key, kind in SPACE[self.name].items() if key not in self.given}

    def drawn(self, trial: "Trial | None", *, eps: float) -> Candidate:
        """Return an attack; ``trial`` draws what is open, None where nothing is."""
        options = dict(self.given)
        for key, kind in self.open.items():
            assert trial is not None
            options[key] = _drawn(trial, f"{self.name}.{key}", kind, eps)
        return Candidate(self.name, tuple(sorted(options.items())))


def _drawn(trial: "Trial", name: str, kind: Searched, eps: float) -> float | int | str:
    if isinstance(kind, tuple):
        return trial.suggest_categorical(name, kind)
    if isinstance(kind.low, int) and isinstance(kind.high, int):
        return trial.suggest_int(name, kind.low, kind.high, log=True)
    value = trial.suggest_float(name, kind.low, kind.high, log=True)
    return min(value * eps, 1.0) if kind.of_eps else value


def parsed_choices(
    choices: object, *, eps: float | int | str, norm: Norm, eot: int
) -> tuple[Choice, ...]:
    """Return the attacks to choose from, each one that can be built.

    Args:
        choices: None for all; names, or sections of a name and options; or either as text, with
            commas between names or as JSON.
        eps: of the threat model.
        norm: likewise.
        eot: gradients to average, for attacks that can.

    Raises:
        InputError: beginning with ``choices``, for what is no such list.
    """
    wanted = _listed(choices)
    found = []
    for each in wanted:
        section = {"name": each} if isinstance(each, str) else each
        if not isinstance(section, Mapping) or "name" not in section:
            raise InputError(f"choices: {each!r} is no attack: give its name, or name and options")
        name = one_of(tuple(SPACE), section["name"], "choices")
        given = {key: value for key, value in section.items() if key != "name"}
        if eot > 1 and "eot" in ATTACKS.defaults(name):
            given = {"eot": eot, **given}
        try:
            make_attack(name, eps=eps, norm=norm, **given)
        except InputError as error:
            raise InputError(f"choices: {name}: {error}") from None
        found.append(Choice(name, given))
    return tuple(found)


def _listed(choices: object) -> Sequence[object]:
    """Return choices as a list.

    Raises:
        InputError: if they are none, or empty.
    """
    if choices is None:
        return tuple(SPACE)
    if isinstance(choices, str) and not choices.lstrip().startswith("["):
        choices = [name.strip() for name in choices.split(",")]
    elif isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except json.JSONDecodeError as error:
            raise InputError(f"choices: not JSON: {error}") from None
    if not isinstance(choices, Sequence) or not choices:
        raise InputError(f"choices: a list of attacks was expected, of {', '.join(SPACE)}")
    return choices
