"""Families of students that `selection.py` ranks: a configuration and a grid each, and its half."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from measuring import SMALL_DIGITS

from dfshield.config import Config, load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
GRID = "sweep.parameters.training"


@dataclass(frozen=True)
class Family:
    """Students of one teacher.

    Attributes:
        half: the rule is fixed on the first half before the second is looked at.
        config: a YAML file among the examples, with its grid.
        changes: overrides of it.
        fresh: overrides for the further images that are made for measurements alone.
    """

    half: Literal["first", "second"]
    config: str
    changes: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def settings(self, name: str, out: Path, seeds: int, more: tuple[str, ...] = ()) -> Config:
        """Return the sweep of the family, whose run lies in ``out``."""
        own = (f"name={name}", f"storage.path={out}", f"sweep.seeds={list(range(seeds))}")
        alone = ("cluster.address=none", "trackers=[]", "synthesis.method.holdout=alike")
        return load_config(EXAMPLES / self.config, [*self.changes, *more, *own, *alone])


LAMBDA, TAU_K = "sweeps/digits-lambda.yaml", "sweeps/digits-tau-k.yaml"
FAMILIES = {
    "digits-lambda": Family("first", LAMBDA),
    "digits-tau-k": Family("first", TAU_K),
    "pneumonia": Family(
        "first",
        LAMBDA,
        (
            "teacher.input_shape=[1, 28, 28]",
            "teacher.train.data={name: pneumoniamnist, path: '${DFSHIELD_DATA}'}",
            "teacher.train.epochs=5",
            "evaluation.data={name: pneumoniamnist, path: '${DFSHIELD_DATA}', split: test}",
            "threat.eps=4/255",
            "synthesis.num_images=1000",
            "storage.part_size=200",
            f"{GRID}.objective.lambda1={{grid: [0, 0.1, 1, 10]}}",
            f"{GRID}.objective.lambda2={{grid: [0, 0.1, 1, 10]}}",
        ),
    ),
    "digits-narrow": Family("second", LAMBDA, ("teacher.options.width=4",)),
    "digits-deep": Family("second", LAMBDA, ("teacher.source=dfshield:resnet20",)),
    "cifar10": Family(
        "second",
        "cifar10-resnet20.yaml",
        (
            "training.data=${DFSHIELD_DATA}/surrogate_cifar10_resnet20",
            "training.epochs=5",
            "training.gradrefine.num_batches=4",
            "training.learning_rate=0.0005",
            "evaluation.num_images=100",
            f"{GRID}.objective.lambda1={{grid: [0, 0.1, 1, 10]}}",
            f"{GRID}.objective.lambda2={{grid: [0.1, 1, 10]}}",
        ),
        ("synthesis.method.iterations=200",),
    ),
}
SMALL = (
    *SMALL_DIGITS,
    "evaluation.attacks=[{name: pgd, num_steps: 5}]",
    f"{GRID}.objective.lambda1={{grid: [0, 1]}}",
    f"{GRID}.objective.lambda2={{grid: [0, 10]}}",
)
REHEARSED = ("digits-lambda", "digits-narrow")
"""The families of a rehearsal: one of each half."""
