"""Results that are kept as JSON with the version of their format, read back with checks."""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from dfshield import __version__
from dfshield.errors import InputError
from dfshield.validation import first_problem

Kept = TypeVar("Kept", bound=BaseModel)


def read_kept(kind: type[Kept], text: str, *, newest: int, source: str) -> Kept:
    """Return what was kept as JSON, such as a result.

    Args:
        kind: what it is, with a field ``format_version``.
        text: the JSON.
        newest: the newest format that can be read.
        source: how errors call it, such as the path of the file.

    Raises:
        InputError: for text that is no such thing, or one of a newer format.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: not JSON: {error}") from None
    # First, since what a newer format has added is unknown here.
    found = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(found, int) and found > newest:
        raise InputError(
            f"{source}: format version {found} is newer than {newest}, the newest that "
            f"dfshield {__version__} reads: update dfshield"
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{source}: {first_problem(error)}") from None
