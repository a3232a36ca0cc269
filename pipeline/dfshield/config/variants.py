"""Keys whose value is a variant of a family: ``{name: trades, beta: 6}``, or the name alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from dfshield.config.renamed_keys import note_renamed
from dfshield.config.yaml_text import WrittenNumber
from dfshield.errors import InputError
from dfshield.families import Family


class VariantConfig(BaseModel):
    """One variant of a family: its name and the keyword arguments of its constructor."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(self.model_extra or {})


class OptionError(ValueError):
    """What is wrong with an option of a variant; the text begins with the option's name."""


@dataclass(frozen=True)
class VariantOf:
    """Marks a key that takes a variant of a family.

    Attributes:
        family: returns the family; called when a value is read, since algorithms load slowly.
        default: the variant of a value that names none.
        optional: whether the key may be null, which names none.
        build: whether a value is checked by building it, and told with all its options. Otherwise
            that is left to those who know what the pipeline supplies.
    """

    family: Callable[[], Family[Any]]
    default: str | None = None
    optional: bool = False
    build: bool = True

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read the value before pydantic does."""
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of every variant, from the code."""
        of_family = self.family().schema(self.default)
        return {"if": {"type": "null"}, "else": of_family} if self.optional else of_family

    def _read(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, VariantConfig):
            value = {"name": value.name, **value.options}
        if not isinstance(value, Mapping):
            raise ValueError(f"a name or a section with a name was expected (got {value!r})")
        options = {str(key): _plain(item) for key, item in value.items() if key != "name"}
        name = value.get("name", self.default)
        if name is None:
            raise OptionError("name: this key is required")
        family = self.family()
        options = _with_current_names(options, family)
        if not self.build:
            return {"name": name, **options}
        try:
            return family.describe(family.make(str(name), **options))
        except InputError as error:
            kind = OptionError if family.names_option(error, str(name), options) else ValueError
            raise kind(str(error)) from None


def _with_current_names(options: dict[str, Any], family: Family[Any]) -> dict[str, Any]:
    """Return options with those under their names of earlier releases renamed."""
    for old, new in family.renamed.items():
        if old not in options:
            continue
        if new in options:
            raise OptionError(f"{old}: is {new} now, which is given as well: leave {old} out")
        note_renamed(f"{old} of {family.kind}s", new)
        options = {new if key == old else key: value for key, value in options.items()}
    return options


def _plain(value: Any) -> Any:
    """Return a value as an algorithm takes it: 1e3 stands for whole numbers as well."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if not isinstance(value, WrittenNumber):
        return value
    return int(value) if value.is_integer() else float(value)
