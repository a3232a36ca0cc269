"""Keys that were renamed: configurations and records that have the old ones are read all the same.

Whoever renames a key adds it to `OLD_NAMES`, and nothing else.
"""

from collections.abc import Mapping
from typing import Any

from dfshield.errors import InputError

OLD_NAMES: dict[str, dict[str, str]] = {}
"""By section, ``training.inner`` say, the old name of a key and the one that it has now. A ``*`` in
the path of a section stands for any place in a list: ``evaluation.attacks.*``."""


def renamed(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return nested sections with the names that keys have now, and what was renamed.

    Args:
        tree: a configuration, or a part of one.

    Returns:
        A tree of its own, and one ``training.inner.steps is training.inner.num_steps now`` for
        every key that was changed.

    Raises:
        InputError: if a key is given under both names.
    """
    notes: list[str] = []
    return _renamed(tree, "", notes), notes


def _renamed(tree: Any, section: str, notes: list[str]) -> Any:
    if isinstance(tree, list | tuple):
        return [_renamed(item, f"{section}.*", notes) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    names = OLD_NAMES.get(section, {})
    found: dict[str, Any] = {}
    for key, value in tree.items():
        now: Any = names.get(key, key)
        before, after = (f"{section}.{name}".lstrip(".") for name in (key, now))
        if now != key:
            if now in tree:
                raise InputError(f"{before}: is {after} now, which is given as well: leave one out")
            notes.append(f"{before} is {after} now")
        found[now] = _renamed(value, after, notes)
    return found


def path_now(path: str) -> str:
    """Return the path that a key has now: ``training.inner.num_steps``."""
    section, _, key = path.rpartition(".")
    return _joined(section, OLD_NAMES.get(section, {}).get(key, key))


def first_path(path: str) -> str:
    """Return the path that a key had first; names of files are made of it, and stay."""
    section, _, key = path.rpartition(".")
    older = {now: old for old, now in OLD_NAMES.get(section, {}).items()}
    return _joined(section, older.get(key, key))


def _joined(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key
