"""Families: named variants behind one contract, such as the attacks or the training objectives.

A variant is a class with a ``name``; its options are the keyword arguments of its constructor, and
building it is what checks them. A family's registry lists its variants in one tuple::

    OBJECTIVES = Family("objective", (SoftLabelObjective, TradesObjective))
    OBJECTIVES.make("trades", beta=6.0)

The configuration names one as ``{name: trades, beta: 6.0}``.
"""

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    Generic,
    TypeVar,
    get_type_hints,
)

from dfshield.checks import nearest
from dfshield.errors import InputError
from dfshield.variant_options import REQUIRED, Option, built, described_arguments, plain


class Variant:
    """Base of what a family holds.

    Attributes:
        name: in the configuration and the registry.
        algorithm: version of what it computes: raised when the same options give other results,
            so that results of before are known to be others.
        recorded_as: what a record means that leaves an option out, of those whose default has been
            another.
    """

    name: ClassVar[str]
    algorithm: ClassVar[int] = 1
    recorded_as: ClassVar[Mapping[str, Any]] = {}


V = TypeVar("V", bound=Variant)


class Family(Mapping[str, type[V]], Generic[V]):
    """The variants of a family by name.

    Args:
        kind: what a variant is called in messages: ``attack``.
        variants: all of them, in the order in which they are listed.
        supplied: options that the pipeline supplies where the user leaves them out, such as an
            attack's ``eps``, which is then that of the threat model.
        renamed: options by their names of earlier releases, which configurations may still say,
            and their names now.
        synonyms: names that other libraries give to options, and ours for them.
    """

    def __init__(
        self,
        kind: str,
        variants: Sequence[type[V]],
        *,
        supplied: Collection[str] = (),
        renamed: Mapping[str, str] | None = None,
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.supplied = frozenset(supplied)
        self.renamed = dict(renamed or {})
        self._synonyms = {**self.renamed, **(synonyms or {})}
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
        hints, described = get_type_hints(variant.__init__), described_arguments(variant)
        return tuple(
            Option(key, hints.get(key, Any), parameter.default, described.get(key, ""))
            for key, parameter in inspect.signature(variant).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        )

    def defaults(self, name: str) -> dict[str, Any]:
        """Return the default of every option of a variant that has one."""
        known = ((option.name, option.default) for option in self.options(name))
        return {key: default for key, default in known if default is not REQUIRED}

    def recorded_defaults(self, name: str) -> dict[str, Any]:
        """Return what a record means that leaves options out; see `Variant.recorded_as`."""
        return {**self.defaults(name), **self.find(name).recorded_as}

    def check(self, name: str, options: Collection[str]) -> None:
        """Check the names of options; a variant that takes any hands them on to another.

        Raises:
            InputError: for an unknown variant or option, with the nearest.
        """
        if self._takes_any(name):
            return
        parameters = inspect.signature(self.find(name)).parameters
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
        given = {o.name: built(o, options[o.name]) for o in self.options(name) if o.name in options}
        return self._variants[name](**{**options, **given})

    def names_option(self, error: InputError, name: str, given: Collection[str]) -> bool:
        """Return whether an error's text begins with an option, which a path can stand before.

        What begins with a key inside an option, ``coefficients.rule``, does too.

        Args:
            error: of `make`.
            name: of the variant.
            given: the options that it was given, known or not.
        """
        known = {option.name for option in self.options(name)} if name in self else set()
        return re.split("[:.]", str(error), maxsplit=1)[0] in {"name", *known, *given}

    def describe(self, variant: V) -> dict[str, Any]:
        """Return name and options of a variant, which it keeps as attributes, ready for JSON."""
        options = (option.name for option in self.options(variant.name))
        return {"name": variant.name, **{key: plain(getattr(variant, key)) for key in options}}

    def changed(self, variant: V) -> dict[str, Any]:
        """Return those options of a variant that are not at their defaults, ready for JSON."""
        return {
            option.name: plain(value)
            for option in self.options(variant.name)
            if (value := getattr(variant, option.name)) != option.default
        }

    def summary(self, name: str) -> str:
        """Return the first line of a variant's docstring."""
        return (inspect.getdoc(self.find(name)) or "").partition("\n")[0]

    def listing(self) -> dict[str, dict[str, Any]]:
        """Return summary and options of every variant by name, ready for JSON.

        An option is its JSON schema, and whether a configuration must give it.
        """
        return {
            name: {
                "summary": self.summary(name),
                "options": {
                    option.name: {**option.schema(), "required": self._must_be_given(option)}
                    for option in self.options(name)
                },
            }
            for name in self
        }

    def schema(self, default: str | None = None) -> dict[str, Any]:
        """Return the JSON schema of a variant as the configuration writes it.

        A name alone, or a section whose ``name`` says which options it takes: one rule a variant.

        Args:
            default: the variant of a section without a name; None if it must have one.
        """
        names = list(self)
        section = {
            "type": "object",
            "properties": {"name": {"enum": names}},
            "required": ["name"] if default is None else [],
            "allOf": [self._rule(name, is_default=name == default) for name in names],
        }
        return {"if": {"type": "string"}, "then": {"enum": names}, "else": section}

    def _rule(self, name: str, *, is_default: bool) -> dict[str, Any]:
        options = self.options(name)
        return {
            "if": {
                "properties": {"name": {"const": name}},
                "required": [] if is_default else ["name"],
            },
            "then": {
                "title": name,
                "description": self.summary(name),
                "properties": {
                    "name": {"const": name},
                    **{option.name: option.schema() for option in options},
                },
                "required": [o.name for o in options if self._must_be_given(o)],
                "additionalProperties": self._takes_any(name),
            },
        }

    def _must_be_given(self, option: Option) -> bool:
        return option.default is REQUIRED and option.name not in self.supplied

    def _takes_any(self, name: str) -> bool:
        """Return whether a variant hands options that it does not know on to another."""
        parameters = inspect.signature(self.find(name)).parameters.values()
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
