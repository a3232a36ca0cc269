"""No average."""

from dfshield.training.averages.base import Average


class NoAverage(Average):
    """The student is that of the last update (the paper's training)."""

    name = "none"

    def __init__(self) -> None:
        """Take no option."""

    def weight(self, update: int, *, updates_per_epoch: int, epochs: int) -> float:  # noqa: ARG002
        """Return 0; see `Average`."""
        return 0.0
