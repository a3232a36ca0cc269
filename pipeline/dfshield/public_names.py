"""Packages whose public names are imported when they are first asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def public_names(package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that gives the names of its module ``public``.

    Args:
        package: its name.
    """

    def find(name: str) -> Any:
        if not name.startswith("__"):
            public = import_module(f"{package}.public")
            if name in public.__all__:
                return getattr(public, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
