"""What a run found, for people: one self-contained HTML page, its figures, and the model card.

Everything here takes plain data and returns bytes or text; whoever calls it writes the files. What
stands in `dfshield.report.public` is imported when it is first asked for: it brings matplotlib.
"""

from typing import TYPE_CHECKING

from dfshield.public_names import public_names

if TYPE_CHECKING:
    from dfshield.report.public import *  # noqa: F403

__getattr__ = public_names(__name__)
