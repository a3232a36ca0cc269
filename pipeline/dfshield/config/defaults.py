"""What keys mean that a record leaves out, as one table, from the models and the variants' code."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from dfshield.config.models import Config
from dfshield.config.variants import VariantOf
from dfshield.families import Family

Tree = dict[str, Any]


def defaults_for(tree: Mapping[str, Any]) -> Tree:
    """Return the defaults of a recorded configuration, or of a part of one, as nested JSON values.

    A record was written by any release: an option whose default has changed since means what it
    meant then.

    Args:
        tree: the configuration. Which variants it names, and which optional sections it has,
            decides what there are defaults of.

    Returns:
        Every key that has a default, of the sections that ``tree`` has.
    """
    known = {key: Config.model_fields[key] for key in tree if key in Config.model_fields}
    return _defaults(known, tree)


def _defaults(fields: Mapping[str, FieldInfo], tree: Mapping[str, Any]) -> Tree:
    found: Tree = {}
    for key, field in fields.items():
        default: Any = None if field.is_required() else field.get_default(call_default_factory=True)
        given = tree.get(key)
        below = given if isinstance(given, Mapping) else None
        if variant := next((m for m in field.metadata if isinstance(m, VariantOf)), None):
            found[key] = (
                None
                if default is None and below is None
                else _of_variant(variant.family(), default and default.name, below or {})
            )
        elif (section := _section_in(field)) and (below is not None or default is not None):
            found[key] = _defaults(section.model_fields, below or {})
        elif not field.is_required():
            found[key] = to_jsonable_python(default)
    return found


def _of_variant(family: Family[Any], default: str, given: Mapping[str, Any]) -> Tree:
    name = given.get("name", default)
    known: Tree = to_jsonable_python(family.recorded_defaults(name) if name in family else {})
    return known | ({"name": name} if name == default else {})


def _section_in(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a key holds, optional or not; None for a value or a list."""
    union = get_origin(field.annotation) in (Union, UnionType)
    for kind in get_args(field.annotation) if union else (field.annotation,):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
