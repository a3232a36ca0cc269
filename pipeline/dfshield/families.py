"""Families: named variants behind one contract, such as the attacks or the training objectives.

A variant is a class with a ``name``; its options are the keyword arguments of its constructor, and
building it is what checks them. A family's registry lists its variants in one tuple::

    OBJECTIVES = Family("objective", (SoftLabelObjective, TradesObjective))
    OBJECTIVES.make("trades", beta=6.0)

The configuration names one as ``{name: trades, beta: 6.0}``.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

from dfshield.checks import nearest
from dfshield.errors import InputError

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""


class Variant:
    """Base of what a family holds.

    Attributes:
        name: in the configuration and the registry.
        algorithm: version of what it computes: raised when the same options give other results,
            so that results of before are known to be others.
    """

    name: ClassVar[str]
    algorithm: ClassVar[int] = 1


@dataclass(frozen=True)
class Option:
    """An option of a variant.

    Attributes:
        name: the keyword argument.
        annotation: its type.
        default: its value where it is left out; `REQUIRED` if it has none.
    """

    name: str
    annotation: Any
    default: Any

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of its values."""
        from pydantic import PydanticSchemaGenerationError, TypeAdapter  # only the schema needs it

        try:
            schema = TypeAdapter(self.annotation).json_schema()
        except PydanticSchemaGenerationError:  # another model, which configurations name by folder
            schema = {"type": "string"}
        return schema if self.default is REQUIRED else {**schema, "default": self.default}


V = TypeVar("V", bound=Variant)


class Family(Mapping[str, type[V]], Generic[V]):
    """The variants of a family by name.

    Args:
        kind: what a variant is called in messages: ``attack``.
        variants: all of them, in the order in which they are listed.
        supplied: options that the pipeline supplies where the user leaves them out, such as an
            attack's ``eps``, which is then that of the threat model.
        synonyms: names that other libraries give to options, and ours for them.
    """

    def __init__(
        self,
        kind: str,
        variants: Sequence[type[V]],
        *,
        supplied: Collection[str] = (),
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.supplied = frozenset(supplied)
        self._synonyms = dict(synonyms or {})
        self._variants: dict[str, type[V]] = {}
        for variant in variants:
            self.register(variant)

    def register(self, variant: type[V]) -> type[V]:
        """Add a variant, for this process; usable as a decorator of its class.

        Raises:
            InputError: if its name is taken.
        """
        if variant.name in self._variants:
            raise InputError(f"{self.kind}: {variant.name!r} is registered already")
        self._variants[variant.name] = variant
        return variant

    def __getitem__(self, name: str) -> type[V]:
        return self._variants[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variants)

    def __len__(self) -> int:
        return len(self._variants)

    def find(self, name: str) -> type[V]:
        """Return the variant of a name.

        Raises:
            InputError: for an unknown one, with the nearest.
        """
        if name not in self._variants:
            raise InputError(f"name: {self.kind} {name!r} is unknown: {nearest(name, self)}")
        return self._variants[name]

    def options(self, name: str) -> tuple[Option, ...]:
        """Return the options of a variant, as its constructor names them."""
        variant = self.find(name)
        hints = get_type_hints(variant.__init__)
        return tuple(
            Option(key, hints.get(key, Any), parameter.default)
            for key, parameter in inspect.signature(variant).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        )

    def defaults(self, name: str) -> dict[str, Any]:
        """Return the default of every option of a variant that has one."""
        known = ((option.name, option.default) for option in self.options(name))
        return {key: default for key, default in known if default is not REQUIRED}

    def check(self, name: str, options: Collection[str]) -> None:
        """Check the names of options; a variant that takes any hands them on to another.

        Raises:
            InputError: for an unknown variant or option, with the nearest.
        """
        parameters = inspect.signature(self.find(name)).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for key in options:
            if key not in parameters:
                ours = self._synonyms.get(key)
                said = f"here it is {ours!r}" if ours in parameters else nearest(key, parameters)
                raise InputError(f"{key}: is no option of {name}: {said}")

    def make(self, name: str, /, **options: Any) -> V:
        """Return the variant of a name with these options.

        Raises:
            InputError: for an unknown variant or option (with the nearest), one that is missing, or
                a value that makes no sense; the message begins with the option.
        """
        self.check(name, options)
        for option in self.options(name):
            if option.default is REQUIRED and option.name not in options:
                raise InputError(f"{option.name}: is missing, which {name} needs")
        return self._variants[name](**options)

    def names_option(self, error: InputError, name: str, given: Collection[str]) -> bool:
        """Return whether an error's text begins with an option, which a path can stand before.

        Args:
            error: of `make`.
            name: of the variant.
            given: the options that it was given, known or not.
        """
        known = {option.name for option in self.options(name)} if name in self else set()
        return str(error).partition(":")[0] in {"name", *known, *given}

    def describe(self, variant: V) -> dict[str, Any]:
        """Return name and options of a variant, which it keeps as attributes, ready for JSON."""
        options = (option.name for option in self.options(variant.name))
        return {"name": variant.name, **{key: getattr(variant, key) for key in options}}

    def summary(self, name: str) -> str:
        """Return the first line of a variant's docstring."""
        return (inspect.getdoc(self.find(name)) or "").partition("\n")[0]

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a variant as the configuration writes it."""
        return {"oneOf": [self._schema_of(name) for name in self]}

    def _schema_of(self, name: str) -> dict[str, Any]:
        options = self.options(name)
        takes_any = any(
            parameter.kind is parameter.VAR_KEYWORD
            for parameter in inspect.signature(self.find(name)).parameters.values()
        )
        needed = [o.name for o in options if o.default is REQUIRED and o.name not in self.supplied]
        return {
            "type": "object",
            "title": name,
            "description": self.summary(name),
            "properties": {
                "name": {"const": name},
                **{option.name: option.schema() for option in options},
            },
            "required": ["name", *needed],
            "additionalProperties": takes_any,
        }
