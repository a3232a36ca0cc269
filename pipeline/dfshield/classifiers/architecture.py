"""How a classifier's network is built, and what goes into and comes out of it."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfshield.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """How to build a classifier's network again, without its weights.

    Attributes:
        source: ``family:name``, for example ``"dfshield:resnet20"``.
        options: what else the family takes, as JSON values.
        input_shape: (c, h, w) of one image.
        num_classes: number of classes k, at least 2.
        class_names: k names, in the order of the logits; empty means "0", "1", ...

    Raises:
        InputError: for a shape, a class count or class names that cannot be.
    """

    source: str
    options: Mapping[str, object]
    input_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if min(self.input_shape) < 1:
            raise InputError(
                f"input_shape: {self.input_shape} must be (channels, height, width), each from 1"
            )
        if self.num_classes < 2:
            raise InputError(f"num_classes: {self.num_classes} must be at least 2")
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.num_classes))))
        if len(self.class_names) != self.num_classes:
            raise InputError(
                f"class_names: {len(self.class_names)} names, but num_classes is {self.num_classes}"
            )
        try:
            # Through JSON and back, so that what was saved equals what was built (tuples, keys).
            options = json.loads(json.dumps(dict(self.options), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"options: must hold JSON values only: {error}") from None
        object.__setattr__(self, "options", options)

    def to_json(self) -> dict[str, object]:
        """Return a dict of JSON values from which `from_json` makes an equal object."""
        return {
            "source": self.source,
            "options": dict(self.options),
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Architecture":
        """Return the architecture that `to_json` described.

        Raises:
            InputError: for a missing key or a value of the wrong kind.
        """
        match values:
            case {
                "source": str(source),
                "options": dict(options),
                "input_shape": [int(c), int(h), int(w)],
                "num_classes": int(num_classes),
                "class_names": list(names),
            } if all(isinstance(name, str) for name in names):
                return cls(source, options, (c, h, w), num_classes, tuple(names))
        raise InputError(
            "architecture: needs source (text), options (object), input_shape [c, h, w], "
            "num_classes (integer) and class_names (list of texts)"
        )


def image_shape(shape: Sequence[int] | None) -> tuple[int, int, int]:
    """Return the shape of an image, checked to be (c, h, w)."""
    try:
        channels, height, width = (operator.index(side) for side in shape or ())
        if min(channels, height, width) < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"input_shape: {shape} must be (channels, height, width) of one image, such as "
            "(3, 32, 32)"
        ) from None
    return channels, height, width
