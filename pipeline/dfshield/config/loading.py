"""Reading a configuration: YAML file, preset, overrides, and errors that name the key."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from dfshield.config.models import Config
from dfshield.config.presets import PRESETS, preset
from dfshield.errors import InputError

Tree = dict[str, Any]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply ``key=value`` overrides, lay it over its preset and validate.

    Raises:
        InputError: in one line that names the file or the key, and the nearest known key for one
            that does not exist.
    """
    tree = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(tree, override)
    return config_from(tree, where=str(path))


def config_from(tree: Mapping[str, Any], *, where: str = "config") -> Config:
    """Validate nested dictionaries as a configuration; see `load_config`."""
    merged = _merge(_preset_of(tree), tree)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise InputError(f"{where}: {_describe(error)}") from None


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML."""
    tree = config.model_dump(mode="json", exclude={"seeds"} if config.seeds is None else {"seed"})
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def expand(path: str, *, key: str) -> str:
    """Expand ``~`` and ``$VARIABLES`` in a path or URI of the configuration.

    Raises:
        InputError: if a variable is not set.
    """
    expanded = os.path.expandvars(path if "://" in path else Path(path).expanduser())
    if "$" in expanded:
        raise InputError(f"{key}: {path!r} names an environment variable that is not set")
    return expanded


def _read_yaml(path: Path) -> Tree:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: a mapping of sections (name, teacher, ...) was expected")
    return tree


def _apply_override(tree: Tree, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r}: an override is written key=value, as in seed=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{override!r}: the value is not valid YAML") from None
    *sections, last = key.split(".")
    for section in sections:
        existing = tree.get(section)
        tree[section] = dict(existing) if isinstance(existing, dict) else {}
        tree = tree[section]
    tree[last] = value


def _preset_of(tree: Mapping[str, Any]) -> Tree:
    name = tree.get("preset")
    if name is None:
        return {}
    if name not in PRESETS:
        raise InputError(f"preset: {name!r} is unknown{_nearest(str(name), PRESETS)}")
    teacher = tree.get("teacher")
    source = teacher.get("source", "") if isinstance(teacher, Mapping) else ""
    return preset(name, teacher_source=str(source))


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            # Settings of one objective mean nothing to another.
            other = "name" in value and value["name"] != below.get("name", value["name"])
            merged[key] = dict(value) if other else _merge(below, value)
        else:
            merged[key] = value
    return merged


def _describe(error: ValidationError) -> str:
    messages = []
    for problem in error.errors(include_url=False):
        key = _key_of(problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"][:-1])
            messages.append(f"{key}: unknown key{_nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
            messages.append(f"{key}: {text}" if key else text)
        elif problem["type"] == "missing":
            messages.append(f"{key}: this key is required")
        elif problem["type"] == "model_type":
            messages.append(f"{key}: a section of settings was expected (got {problem['input']!r})")
        else:
            messages.append(f"{key}: {problem['msg']} (got {problem['input']!r})")
    return "; ".join(messages)


def _key_of(location: Iterable[str | int]) -> str:
    # pydantic puts the tag of a union's member into the location; users never wrote it.
    return ".".join(str(part) for part in location if part not in ("soft-label", "trades"))


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _fields_at(location: Iterable[str | int]) -> list[str]:
    models: list[type[BaseModel]] = [Config]
    for part in location:
        if isinstance(part, int) or part in ("soft-label", "trades"):
            continue
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for annotation in fields for m in _models_in(annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple):
        return [m for inner in get_args(annotation) for m in _models_in(inner)]
    return []
