"""What a run found, for people: one self-contained HTML page, its figures, and the model card.

Everything here takes plain data and returns bytes or text; whoever calls it writes the files. What
stands in `dfshield.report.public` is imported when it is first asked for: it brings matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfshield.report.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        public = import_module("dfshield.report.public")
        if name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module 'dfshield.report' has no attribute {name!r}")
