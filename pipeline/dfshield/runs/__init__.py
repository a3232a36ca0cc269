"""The pipeline itself: stages, identities, events, status, and who executes the work.

What stands in `dfshield.runs.public` is imported when it is first asked for, since it brings torch:
the list of the stages, which the command line shows, does without.
"""

from typing import TYPE_CHECKING

from dfshield.public_names import public_names

if TYPE_CHECKING:
    from dfshield.runs.public import *  # noqa: F403

__getattr__ = public_names(__name__)
