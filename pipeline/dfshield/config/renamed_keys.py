"""Keys that have another name now: the old one is read wherever the new one is.

Configurations, overrides, presets and the axes of sweeps may say either. What is written (the
resolved configuration, messages) has the new one.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from dfshield.errors import InputError

Tree = dict[str, Any]

RENAMED = {
    f"synthesis.{option}": f"synthesis.method.{option}"
    for option in ("iterations", "learning_rate", "jitter", "labels", "coefficients")
}
"""Old key and new key, by config path. All stand for whatever lies under them too."""


def current_key(key: str) -> str:
    """Return the config path that a key has now."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return f"{new}{key.removeprefix(old)}"
    return key


def with_current_keys(tree: Mapping[str, Any]) -> Tree:
    """Return nested dictionaries with every old key under its new name.

    Raises:
        InputError: if a key is given under both of its names.
    """
    made = dict(tree)
    for old, new in RENAMED.items():
        section, key = old.split(".")
        inside = made.get(section)
        if not isinstance(inside, Mapping) or key not in inside:
            continue
        made[section] = {name: value for name, value in inside.items() if name != key}
        if has_key(made, new):
            raise InputError(f"{old}: is {new} now, which is given as well: leave the old key out")
        set_key(made, new, inside[key])
    return made


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
