"""The toy in two dimensions of figure 3, which is run without any data set or model."""

from collections.abc import Iterator

from dfshield.experiments.figure import Figure
from dfshield.experiments.parts import Cell, Part, Scale
from dfshield.paper.table import Key

WAYS = {"fixed coefficients": "fixed", "DSS": "code"}
"""What is made, and how coefficients are drawn for it."""


class Toy(Part):
    """What the toy is, at every scale.

    Attributes:
        num_classes: Gaussian clouds, their centres evenly spaced on a circle around (0.5, 0.5).
        num_points: real ones, and made ones of each kind.
        radius: of the circle.
        spread: standard deviation of a cloud on each axis.
        num_layers: of the network, with BatchNorm behind all but the last.
        width: of its hidden layers.
        epochs: of its training.
        learning_rate: Adam's, of its training.
        iterations: of the synthesis.
        batch_size: of the synthesis.
        num_seeds: each has points, a network and sets of its own.
    """

    num_classes: int
    num_points: int
    radius: float
    spread: float
    num_layers: int
    width: int
    epochs: int
    learning_rate: float
    iterations: int
    batch_size: int
    num_seeds: int


class ToyExperiment(Figure):
    """A figure of the toy: real points, those of fixed coefficients and those of DSS.

    Attributes:
        toy: its numbers.
    """

    toy: Toy

    @property
    def of_data(self) -> tuple[str, ...]:
        """None: the points are drawn."""
        return ()

    @property
    def of_models(self) -> tuple[str, ...]:
        """None: the network is trained on the points."""
        return ()

    @property
    def needs_real_images(self) -> bool:
        """No: the points are drawn."""
        return False

    def rows(self, scale: Scale) -> Iterator[dict[str, Key]]:
        """Give nothing: no cell is one of a sweep."""
        del scale
        yield from ()

    def require_cells(self, scale: Scale) -> tuple[Cell, ...]:
        """Return none: it is run at any scale alike."""
        del scale
        return ()

    def size(self, scale: Scale) -> int:
        """Return how many sets of points are made with one seed: one for each way."""
        del scale
        return len(WAYS)
