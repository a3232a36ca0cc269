"""Cases: settings under a name, which an axis of a sweep has for values."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from dfshield.config import CASES, Config, SweepConfig, current_key, merged_trees, with_current_keys
from dfshield.errors import InputError
from dfshield.runs.identity import flatten, nested

Tree = dict[str, Any]

_DATA = "evaluation.data"
_UNLIKE = ("teacher", "threat", _DATA)
"""What makes students of different cases answers to different questions."""


def overrides_of(config: Config, values: Mapping[str, Any]) -> dict[str, Tree]:
    """Return what the cases among the values of a setting override, by the path of their axis.

    Args:
        config: of the sweep.
        values: by path; that of an axis of cases names one of them.

    Raises:
        InputError: for a case that there is not.
    """
    found = {}
    for key, name in values.items():
        section, _, axis = key.partition(".")
        if section != CASES:
            continue
        cases = config.sweep.cases.get(axis, {})
        if name not in cases:
            raise InputError(f"sweep.cases.{axis}: there is no case {name!r}")
        found[key] = _tree(cases[name])
    return found


def _tree(overrides: Mapping[str, Any]) -> Tree:
    """Return overrides as nested sections under the keys of now; keys may be paths."""
    tree: Tree = {}
    for key, value in overrides.items():
        tree = merged_trees(tree, nested({key: value}))
    return with_current_keys(tree)


def laid_over(tree: Tree, overrides: Mapping[str, Any]) -> Tree:
    """Return a configuration with a case laid over it.

    A teacher of another source replaces all that was said of the first: options, weights and
    shapes of one mean nothing to another.
    """
    teacher, known = overrides.get("teacher"), tree["teacher"]["source"]
    if isinstance(teacher, Mapping) and teacher.get("source", known) != known:
        tree = {**tree, "teacher": {}}
    return merged_trees(tree, overrides)


def case_settings(sweep: SweepConfig) -> dict[str, dict[str, Tree]]:
    """Return what every case sets, by config path, under the path of its axis and its name."""
    return {
        f"{CASES}.{axis}": {name: dict(flatten(_tree(one))) for name, one in cases.items()}
        for axis, cases in sweep.cases.items()
    }


def case_keys(sweep: SweepConfig) -> dict[str, set[str]]:
    """Return the config paths that the cases of each axis set, by the path of the axis."""
    return {axis: set().union(*cases.values()) for axis, cases in case_settings(sweep).items()}


def varied_keys(sweep: SweepConfig) -> set[str]:
    """Return every config path that is not the same in all trials, under its name of now."""
    swept = {current_key(key) for key in sweep.parameters}
    return swept.union(*case_keys(sweep).values())


def comparable(sweep: SweepConfig) -> bool:
    """Return whether one setting of a sweep can be called better than another.

    Students of different teachers, or measured on other images or under another threat, are
    answers to different questions.
    """
    keys = {key for of_axis in case_keys(sweep).values() for key in of_axis}
    return not any(_within(key, part) for key in keys for part in _UNLIKE)


def check_cases(config: Config) -> None:
    """Refuse axes of cases that get in each other's way.

    Raises:
        InputError: naming both and the key.
    """
    sweep = config.sweep
    by_axis = {f"sweep.{axis}": keys for axis, keys in case_keys(sweep).items()}
    by_axis["sweep.parameters"] = {current_key(key) for key in sweep.parameters}
    for (one, keys), (other, others) in combinations(by_axis.items(), 2):
        for key in sorted(keys):
            if any(_within(key, known) or _within(known, key) for known in others):
                raise InputError(f"{one}: sets {key}, which {other} sets as well: leave one out")


def require_matrix(config: Config) -> None:
    """Check that a sweep is a matrix: every case of one axis with every case of another.

    Raises:
        InputError: if it has other axes.
    """
    sweep = config.sweep
    if len(sweep.cases) != 2 or sweep.parameters or sweep.search != "grid":
        named = ", ".join([*sweep.cases, *sweep.parameters]) or "none"
        raise InputError(
            "sweep.cases: a matrix has two axes of cases, its rows and its columns, no "
            f"sweep.parameters, and every cell (sweep.search=grid); this sweep has {named}"
        )


def measured_on(key: str) -> bool:
    """Return whether a config path belongs to the images that students are measured on."""
    return _within(key, _DATA)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def named_keys(sweep: SweepConfig) -> Iterator[tuple[str, str]]:
    """Give each config path that a case sets, with where that stands, for messages."""
    for axis, cases in case_settings(sweep).items():
        for name, settings in cases.items():
            for key in settings:
                yield key, f"sweep.{axis}.{name}.{key}"
