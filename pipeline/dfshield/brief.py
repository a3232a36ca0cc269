"""One short line for records that hold thousands of numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor

_MOST_ITEMS = 6
_LONGEST = 60


class Shown(str):
    """Text that is its own ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def brief(value: object) -> Shown:
    """Return a value in a few words: an array by type and shape, a long list by its length."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        return Shown(f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}")
    if isinstance(value, Mapping | tuple | list | set):
        if len(value) > _MOST_ITEMS:
            return Shown(f"<{len(value)} items>")
        if isinstance(value, Mapping):
            return _cut(f"{{{', '.join(f'{key!r}: {brief(value[key])}' for key in value)}}}")
        return _cut(f"({', '.join(map(brief, value))})")
    return _cut(repr(value))


def _cut(text: str) -> Shown:
    return Shown(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ...")


class Brief:
    """A dataclass, made with ``repr=False``, whose ``repr`` is brief."""

    def __repr__(self) -> str:
        shown: Any = self
        values = [f"{each.name}={brief(getattr(self, each.name))}" for each in fields(shown)]
        return f"{type(self).__name__}({', '.join(values)})"


class BriefModel(BaseModel):
    """A pydantic model whose ``repr``, also by rich, is brief."""

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Return names and values to show."""
        for name in type(self).model_fields:
            yield name, brief(getattr(self, name))
