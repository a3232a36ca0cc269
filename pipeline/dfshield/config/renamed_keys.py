"""Keys that have another name now: the old one is read wherever the new one is.

Configurations, overrides, presets and the axes of sweeps may say either. What is written (the
resolved configuration, messages) has the new one.
"""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from dfshield.errors import InputError

Tree = dict[str, Any]

_log = logging.getLogger(__name__)

OF_DSS = {
    f"synthesis.{option}": f"synthesis.method.{option}"
    for option in ("iterations", "learning_rate", "jitter", "labels", "coefficients")
}
"""Options of the default synthesizer, which may stand beside it."""

RENAMED = {
    "threat.step": "threat.step_size",
    "training.inner.step": "training.inner.step_size",
    "training.inner.steps": "training.inner.num_steps",
    **OF_DSS,
}
"""Old key and new key, by config path. All stand for whatever lies under them too."""


@cache
def note_renamed(old: str, new: str) -> None:
    """Tell the user, once, that a key has another name now."""
    _log.warning("%s is called %s now; the old name is still read", old, new)


def current_key(key: str) -> str:
    """Return the config path that a key has now."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return f"{new}{key.removeprefix(old)}"
    return key


def with_current_keys(tree: Mapping[str, Any], *, note: bool = True) -> Tree:
    """Return nested dictionaries with every old key under its new name.

    Args:
        tree: a configuration, or a part of one.
        note: whether the user is told; a record is nothing that the user wrote.

    Raises:
        InputError: if a key is given under both of its names.
    """
    made = dict(tree)
    for old, new in RENAMED.items():
        if not has_key(made, old):
            continue
        value = _taken(made, old)
        if has_key(made, new):
            raise InputError(f"{old}: is {new} now, which is given as well: leave the old key out")
        if note and old not in OF_DSS:
            note_renamed(old, new)
        set_key(made, new, value)
    return made


def _taken(tree: Tree, key: str) -> Any:
    """Take a key out of nested dictionaries, of which those on its path are copied."""
    *sections, last = key.split(".")
    for section in sections:
        tree[section] = dict(tree[section])
        tree = tree[section]
    return tree.pop(last)


def nearest_renamed(key: str) -> str:
    """Return the end of an error about an unknown key that is nearly an old one, or nothing."""
    close = get_close_matches(key, RENAMED, n=1, cutoff=0.9)
    return f"did you mean {RENAMED[close[0]]!r}?" if close else ""


def has_key(tree: Mapping[str, Any], key: str) -> bool:
    """Return whether nested dictionaries have a config path."""
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def set_key(tree: Tree, key: str, value: Any) -> None:
    """Set the value of a config path (``training.gradrefine.tau``) in nested dictionaries.

    A variant that is named alone (``method: dss``) becomes a section with that name.
    """
    *sections, last = current_key(key).split(".")
    for section in sections:
        existing = tree.get(section)
        if isinstance(existing, str):
            existing = {"name": existing}
        tree[section] = dict(existing) if isinstance(existing, Mapping) else {}
        tree = tree[section]
    tree[last] = value
