"""The pipeline itself: stages, identities, events, status, and who executes the work.

What stands in `dfshield.runs.public` is imported when it is first asked for, since it brings torch:
the list of the stages, which the command line shows, does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfshield.runs.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        public = import_module("dfshield.runs.public")
        if name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module 'dfshield.runs' has no attribute {name!r}")
