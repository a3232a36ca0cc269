"""The run's metrics beside Ray's own, for Prometheus and Grafana."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dfshield.trackers import Point

if TYPE_CHECKING:
    from ray.util.metrics import Gauge


class RayMetrics:
    """Keeps the last value of every metric in a gauge of Ray, once this process has joined one.

    A node's Prometheus endpoint shows ``train/loss`` as ``ray_dfshield_train_loss``, with the name
    of the run and the seed as tags; accuracies are all ``ray_dfshield_evaluation_accuracy``, with
    model and attack as further tags. They are there as long as the run works; the very last ones
    may be missing, since Ray collects only every few seconds.

    Args:
        run: its name.
        seeds: its seeds.
    """

    flush_every = 5.0

    def __init__(self, run: str, seeds: Sequence[int]) -> None:
        self._run = run
        self._seed = str(seeds[0])
        self._gauges: dict[str, Gauge] = {}
        self._last: dict[tuple[str, tuple[str, ...]], Callable[[], None]] = {}

    def log(self, point: Point) -> None:
        """Set the gauges."""
        import ray

        if not ray.is_initialized():
            return
        seed, _, group = point.group.rpartition("/")
        tags = {"run": self._run, "seed": seed.removeprefix("seed-") or self._seed}
        for name, value in point.metrics.items():
            if group == "evaluation":
                model, _, attack = name.partition("/")
                self._set("evaluation_accuracy", value, {**tags, "model": model, "attack": attack})
            else:
                self._set(f"{group}_{name}", value, tags)

    def _set(self, name: str, value: float, tags: dict[str, str]) -> None:
        from ray.util.metrics import Gauge

        gauge = self._gauges.get(name)
        if gauge is None:
            description = f"dfshield: {name.replace('_', ' ')}"
            gauge = Gauge(f"dfshield_{name}", description=description, tag_keys=tuple(tags))
            self._gauges[name] = gauge
        gauge.set(value, tags=tags)
        self._last[name, tuple(tags.values())] = partial(gauge.set, value, tags=tags)

    def flush(self) -> None:
        """Set the gauges again: Ray forgets one that has not been set for two of its reports."""
        for set_again in self._last.values():
            set_again()

    def close(self, *, failed: bool) -> None:
        """Do nothing: the gauges end with this process."""
