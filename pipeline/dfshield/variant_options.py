"""The options of a variant of a family: the keyword arguments of its constructor."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

from dfshield.checks import nearest, one_of
from dfshield.errors import InputError

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """An option of a variant.

    Attributes:
        name: the keyword argument.
        annotation: its type.
        default: its value where it is left out; `REQUIRED` if it has none.
        description: what the docstring says of it, in one line.
    """

    name: str
    annotation: Any
    default: Any
    description: str

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of its values."""
        from pydantic import PydanticSchemaGenerationError, TypeAdapter  # only the schema needs it

        try:
            schema = TypeAdapter(self.annotation).json_schema()
        except PydanticSchemaGenerationError:  # another model, which configurations name by folder
            schema = {"type": "string"}
        schema["description"] = self.description
        return schema if self.default is REQUIRED else {**schema, "default": plain(self.default)}


def plain(value: Any) -> Any:
    """Return the value of an option ready for JSON: a dataclass is a mapping, a tuple a list."""
    if isinstance(value, tuple):
        return list(value)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def built(option: Option, value: Any) -> Any:
    """Return the value of an option as the constructor takes it: a mapping made a dataclass.

    Raises:
        InputError: for an unknown key or a value that makes no sense, by its path in the option.
    """
    kind = option.annotation
    if get_origin(kind) is Literal:
        return one_of(get_args(kind), value, option.name)
    if not is_dataclass(kind) or not isinstance(kind, type) or isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{option.name}: a section of settings was expected (got {value!r})")
    known = [field.name for field in fields(kind)]
    for key in value:
        if key not in known:
            raise InputError(f"{option.name}.{key}: unknown key; {nearest(str(key), known)}")
    try:
        return kind(**value)
    except InputError as error:
        raise InputError(f"{option.name}.{error}") from None


def described_arguments(variant: type) -> dict[str, str]:
    """Return what the sections ``Args:`` of a class's docstrings say of each argument.

    A class that inherits its constructor, or adds to it, has the rest from its bases.
    """
    found: dict[str, str] = {}
    for base in reversed(variant.__mro__):
        docstring = inspect.cleandoc(base.__doc__ or "")
        section = re.split(r"\n(?=\S)", docstring.partition("\nArgs:\n")[2])[0]
        for entry in re.finditer(r"^    (\w+): (.*(?:\n     .*)*)", section, flags=re.MULTILINE):
            found[entry[1]] = " ".join(entry[2].split())
    return found
