"""Identities: all that a result depends on, and what of it differs between two of them.

An identity is written as a part of the configuration: sections, keys and values, with what the
configuration does not know (fingerprints) beside them. A key at its default is left out, so that a
new option says nothing about results that were made before it; so is an algorithm of version 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

from pydantic import BaseModel

from dfshield.attacks import ATTACKS
from dfshield.config import current_key, defaults_for, with_current_keys

ALGORITHMS = {"teacher": 1, "synthesis": 1, "training": 1, "baseline": 1}
"""Versions: whoever changes what the same settings give raises one. What was made by another
version is then refused, or measured anew. Variants have a version of their own."""

_SURROGATE = "surrogate"  # the identity of the images that a student was trained on
_ALGORITHM = "algorithm"


def identity_of(*algorithms: str, **depends_on: Any) -> dict[str, Any]:
    """Return an identity.

    Args:
        algorithms: those of `ALGORITHMS` that make the result.
        depends_on: what else it depends on: sections of the configuration with those of their keys
            that matter, fingerprints, the seed.
    """
    versions = {name: ALGORITHMS[name] for name in algorithms}
    return stripped({**depends_on, _ALGORITHM: versions | depends_on.get(_ALGORITHM, {})})


def keys_of(section: BaseModel, keys: Sequence[str]) -> dict[str, Any]:
    """Return these keys of a section as JSON values."""
    return section.model_dump(mode="json", include=set(keys))


def stripped(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without the keys of its sections that are at their defaults.

    A section stays, though it may be empty: its result has something of it.
    """
    now = with_current_keys(identity, note=False)
    defaults = _defaults(now)
    left = {}
    for key, value in now.items():
        if key == _SURROGATE:
            left[key] = stripped(value)
        elif isinstance(value, Mapping):
            left[key] = _without(value, defaults.get(key, {}))
        else:
            left[key] = value
    if not left.get(_ALGORITHM, True):
        del left[_ALGORITHM]
    return left


def filled(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity, of any age, with all its keys: by their names of now, with defaults."""
    now = with_current_keys(nested(identity), note=False)
    now.pop("audit", None)  # sweeps used to record these two, on which nothing depends
    if isinstance(now.get("synthesis"), Mapping):
        now["synthesis"] = {k: v for k, v in now["synthesis"].items() if k != "checkpoint_every"}
    evaluation = now.get("evaluation")
    if isinstance(evaluation, Mapping) and "attacks" in evaluation:
        now["evaluation"] = {**evaluation, "attacks": _by_names_of_now(evaluation["attacks"])}
    if "axes" in now:
        now["axes"] = sorted(map(current_key, now["axes"]))
    if _SURROGATE in now:
        now[_SURROGATE] = filled(now[_SURROGATE])
    return _with(now, _defaults(now))


def _by_names_of_now(attacks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{ATTACKS.renamed.get(k, k): v for k, v in attack.items()} for attack in attacks]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one ``key: old → new`` per key in which two identities differ.

    Records of earlier releases, which held all keys, or held them by other names, count as what
    they mean.
    """
    left, right = dict(flatten(filled(old))), dict(flatten(filled(new)))
    return [
        f"{key}: {left.get(key, 'unset')} → {right.get(key, 'unset')}"
        for key in sorted(left.keys() | right.keys())
        if not _same(left.get(key), right.get(key))
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of nested mappings, each under its keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings of one whose keys are joined by dots; the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        below = tree
        for name in sections:
            below = below.setdefault(name, {})
        below[last] = value
    return tree


def _defaults(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of an identity's keys."""
    return {**defaults_for(identity), _ALGORITHM: dict.fromkeys(identity.get(_ALGORITHM, ()), 1)}


def _without(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    left = {}
    for key, value in tree.items():
        default = defaults.get(key, ...)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            value = _without(value, default)
            default = {}
        if default is ... or not _same(value, default):
            left[key] = value
    return left


def _with(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(defaults)
    for key, value in tree.items():
        below = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _with(value, below)
        whole[key] = value
    return whole


def _same(old: Any, new: Any) -> bool:
    """Compare two values; a number may be written as text: ``1e-2``, ``8/255``."""
    if isinstance(old, str) != isinstance(new, str):
        old, new = _number(old), _number(new)
    return bool(old == new)


def _number(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError, ZeroDivisionError):
            return float(Fraction(value)) if "/" in value else float(value)
    return value
