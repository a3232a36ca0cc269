"""The kinds of values that configurations hold: what each may be, and how it is written."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from dfshield.config.yaml_text import WrittenNumber
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A name for files, as a pattern."""

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _as_written(value: Any) -> Any:
    return value.text if isinstance(value, WrittenNumber) else value


Text = Annotated[str, BeforeValidator(_as_written)]
"""A name or a path, which may look like a number with an exponent: ``1e-3``."""


def _check_size(value: Any) -> Any:
    value = _as_written(value)
    if not isinstance(value, int | float | str):
        raise ValueError(f'{value!r} is not a perturbation size, such as 0.03 or "8/255"')
    try:
        parse_epsilon(value, key="value")
    except InputError as error:
        raise ValueError(str(error).removeprefix("value: ")) from None
    return value


Size = Annotated[int | float | str, BeforeValidator(_check_size)]
"""A perturbation size on the [0, 1] scale: 0.03 or "8/255"."""


def _check_above_zero(value: int | float | str) -> int | float | str:
    if parse_epsilon(value) == 0:
        raise ValueError(f"{value!r} must be above 0")
    return value


def _as_name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ClassName = Annotated[Text, BeforeValidator(_as_name)]
"""A name of a class; YAML reads those that are numbers as such."""


def _check_on_scale(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(
            f"{value!r} must lie in [0, 1], the scale of the images: divide what is meant for "
            "pixels of 0 to 255 by 255"
        )
    return value


OnScale = Annotated[float, AfterValidator(_check_on_scale)]
"""A statistic of images in [0, 1]."""


def _as_channels(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value,) if number else value


PerChannel = Annotated[
    tuple[OnScale, ...],
    Field(min_length=1),
    BeforeValidator(_as_channels, json_schema_input_type=OnScale | tuple[OnScale, ...]),
]
"""A statistic of each channel, or one number for all."""


Step = Annotated[Size, AfterValidator(_check_above_zero)]
"""A step size on the [0, 1] scale, above 0."""

Name = Annotated[Text, Field(pattern=NAME)]
"""A name for files."""
