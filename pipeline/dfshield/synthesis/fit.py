"""The contract of a fit: a generator of images that is fitted to a teacher, step by step."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class GeneratorFit(ABC):
    """The fit of a generator. It can be left after any step and gone on with later.

    Attributes:
        steps: how many there are in all.
        steps_done: how many are done.
    """

    steps: int
    steps_done: int = 0

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Do the next step and return its losses by name, ``loss`` being what is minimised.

        Raises:
            DfshieldError: if the fit diverges.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on: tensors and plain containers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the result is that of a fit that never stopped."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return the generator's weights, on the CPU."""
