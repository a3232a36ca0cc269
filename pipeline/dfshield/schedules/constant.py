"""One learning rate for all updates."""

from dfshield.schedules.base import Schedule


class Constant(Schedule):
    """The learning rate stays as it is (the paper's training), once it is warm."""

    name = "constant"

    def after_warmup(self, update: int, num_updates: int) -> float:  # noqa: ARG002
        """Return 1; see `Schedule`."""
        return 1.0
