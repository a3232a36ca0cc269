"""Reading a configuration: YAML file, preset, overrides, and errors that name the key."""

import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from dfshield.checks import nearest
from dfshield.config.models import Config
from dfshield.config.presets import PRESETS, preset
from dfshield.config.renamed_keys import (
    Tree,
    nearest_renamed,
    set_key,
    with_current_keys,
)
from dfshield.config.variants import OptionError, VariantConfig, VariantOf
from dfshield.config.yaml_text import read_yaml, write_yaml
from dfshield.errors import InputError, one_line
from dfshield.families import Family

_LIST_ERRORS = ("tuple_type", "list_type", "too_long")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, lay it over its preset and validate.

    Raises:
        InputError: in one line that names the file or the key, and the nearest known key for one
            that does not exist.
    """
    tree = _read_yaml(Path(path))
    for override in overrides:
        apply_override(tree, override)
    return config_from(tree, where=str(path))


def config_from(tree: Mapping[str, Any], *, where: str = "config") -> Config:
    """Validate nested dictionaries as a configuration; see `load_config`."""
    merged = merged_trees(_preset_of(tree), _with_current_keys(tree, where=where))
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise InputError(f"{where}: {_describe(error)}") from None


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML."""
    tree = config.model_dump(mode="json", exclude={"seeds"} if config.seeds is None else {"seed"})
    return write_yaml(tree)


def described_config(config: Config) -> str:
    """Return the resolved configuration as YAML, below what its preset is."""
    text = dump_config(config)
    if config.preset is None:
        return text
    said = textwrap.fill(PRESETS[config.preset], 98, initial_indent="# ", subsequent_indent="# ")
    return f"{said}\n{text}"


def expand(path: str, *, key: str) -> str:
    """Expand ``~`` and ``$VARIABLES`` in a path or URI of the configuration.

    Raises:
        InputError: if a variable is not set, or the home of a user is unknown.
    """
    try:
        expanded = os.path.expandvars(path if "://" in path else Path(path).expanduser())
    except RuntimeError:
        raise InputError(f"{key}: {path!r} names the home of a user that does not exist") from None
    if "$" in expanded:
        raise InputError(f"{key}: {path!r} names an environment variable that is not set")
    return expanded


def _parse(text: str) -> Any:
    try:
        return read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError is what looks like a number and is none.
        raise InputError(f"not valid YAML: {one_line(error)}") from None


def _read_yaml(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> Tree:
    """Return the nested dictionaries of a configuration file, under the current keys.

    Raises:
        InputError: if it is not YAML, holds something else, or gives a key by both of its names.
    """
    try:
        tree = _parse(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{where}: a mapping of sections (name, teacher, ...) was expected")
    return _with_current_keys(tree, where=where)


def _with_current_keys(tree: Mapping[str, Any], *, where: str) -> Tree:
    try:
        return with_current_keys(tree)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def apply_override(tree: Tree, override: str) -> None:
    """Set the key of a ``key=value`` text in nested dictionaries.

    Raises:
        InputError: if it is no such text, or its value is not YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r}: an override is written key=value, as in seed=1")
    try:
        value = _parse(text)
    except InputError as error:
        raise InputError(f"{override!r}: {error}") from None
    set_key(tree, key, value)


def variant_from(
    text: str, family: Callable[[], Family[Any]], *, build: bool = True
) -> VariantConfig:
    """Return the variant of a family that a text names: ``pgd``, or ``{name: pgd, num_steps: 5}``.

    Args:
        text: YAML.
        family: returns the family.
        build: see `VariantOf`.

    Raises:
        InputError: if it is not YAML, or names no variant or option.
    """
    marked = Annotated[VariantConfig, VariantOf(family, build=build)]
    adapter: TypeAdapter[VariantConfig] = TypeAdapter(marked)
    value = _parse(text)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(_describe(error)) from None


def _preset_of(tree: Mapping[str, Any]) -> Tree:
    name = tree.get("preset")
    if name is None:
        return {}
    if name not in PRESETS:
        raise InputError(f"preset: {name!r} is unknown: {nearest(str(name), PRESETS)}")
    teacher = tree.get("teacher")
    source = teacher.get("source", "") if isinstance(teacher, Mapping) else ""
    return preset(name, teacher_source=str(source))


def merged_trees(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return nested dictionaries with others laid over them, key by key.

    A variant by another name replaces the one below with all its options.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, str) and isinstance(below, Mapping):
            value = {"name": value}  # a variant by its name alone
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            # Options of one variant mean nothing to another.
            other = "name" in value and value["name"] != below.get("name", value["name"])
            merged[key] = dict(value) if other else merged_trees(below, value)
        else:
            merged[key] = value
    return merged


def _describe(refused: ValidationError) -> str:
    messages = []
    for problem in refused.errors(include_url=False):
        key = _key_of(problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"][:-1])
            suggested = nearest_renamed(key) or nearest(str(problem["loc"][-1]), known)
            messages.append(f"{key}: unknown key; {suggested}")
        elif problem["type"] == "value_error":
            error = problem["ctx"]["error"]
            between = "." if isinstance(error, OptionError) else ": "
            messages.append(f"{key}{between}{error}" if key else str(error))
        elif problem["type"] in _LIST_ERRORS or _lacks_position(problem):
            messages.append(_list_expected(problem["loc"]))
        elif problem["type"] == "missing":
            messages.append(f"{key}: this key is required")
        elif problem["type"] == "string_type":
            read = problem["input"]
            hint = "" if isinstance(read, list | dict) else ": put it in quotes"
            messages.append(f"{key}: text was expected (got {read!r}){hint}")
        elif problem["type"] == "model_type":
            messages.append(f"{key}: a section of settings was expected (got {problem['input']!r})")
        else:
            messages.append(f"{key}: {problem['msg']} (got {problem['input']!r})")
    return "; ".join(dict.fromkeys(messages))


def _lacks_position(problem: ErrorDetails) -> bool:
    return problem["type"] == "missing" and isinstance(problem["loc"][-1], int)


def _list_expected(location: Iterable[str | int]) -> str:
    *above, field = [part for part in location if isinstance(part, str)]
    length = ""
    for model in _models_at(above):
        annotation = model.model_fields[field].annotation if field in model.model_fields else None
        for inner in (annotation, *get_args(annotation)):
            if get_origin(inner) is tuple and Ellipsis not in get_args(inner):
                length = f" of {len(get_args(inner))} numbers"
    return f"{_key_of((*above, field))}: a list{length} was expected"


def _key_of(location: Iterable[str | int]) -> str:
    return ".".join(str(part) for part in location)


def _fields_at(location: Iterable[str | int]) -> list[str]:
    return sorted({name for model in _models_at(location) for name in model.model_fields})


def _models_at(location: Iterable[str | int]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [Config]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for annotation in fields for m in _models_in(annotation)]
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple):
        return [m for inner in get_args(annotation) for m in _models_in(inner)]
    return []
