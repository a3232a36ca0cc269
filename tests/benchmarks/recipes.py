"""What `time_to_robustness.py` compares: ways to make images, ways to train, and their pairs."""

from collections.abc import Mapping
from dataclasses import dataclass

Overrides = tuple[str, ...]

COSINE = ("training.schedule={name: cosine, warmup: 0.1}", "training.engine.batches_per_pass=4")
KEPT = (*COSINE, "training.inner.start=kept", "training.inner.num_steps=1")


@dataclass(frozen=True)
class Case:
    """The settings of one classifier.

    Attributes:
        config: a YAML file among the examples.
        changes: overrides of it in all settings, the full recipe among them.
        images: ways to make them, by name.
        trainings: ways to train, by name.
        settings: pairs of the two, the full recipe first.
        test_images: of the evaluation, where the file does not say.
        data: a surrogate data set that all train on instead; the synthesis is then not counted.
    """

    config: str
    changes: Overrides
    images: Mapping[str, Overrides]
    trainings: Mapping[str, Overrides]
    settings: Mapping[str, tuple[str, str]]
    test_images: int = 500
    data: str | None = None


DIGITS = (*KEPT, "training.inner.step_size=0.1", "training.learning_rate=0.012")
CIFAR = (*KEPT, "training.inner.step_size=4/255", "training.learning_rate=0.0015")
CASES = {
    "digits": Case(
        config="digits.yaml",
        changes=(),
        images={
            "500": (),
            "250": ("synthesis.method.iterations=250",),
            "100-constant": (
                "synthesis.method.iterations=100",
                "synthesis.method.learning_rate=0.2",
            ),
            "100-cosine": (
                "synthesis.method.iterations=100",
                "synthesis.method.learning_rate=0.3",
                "synthesis.method.schedule=cosine",
                "synthesis.method.warmup=0.1",
            ),
        },
        trainings={
            "full": (),
            "growing": (
                *COSINE,
                "training.learning_rate=0.012",
                "training.inner={num_steps: 6, first_steps: 2}",
            ),
            "kept": DIGITS,
            "kept-15": (*DIGITS, "training.epochs=15"),
            "kept-half": (*DIGITS, "training.epochs=10"),
        },
        settings={
            "full": ("500", "full"),
            "250": ("250", "full"),
            "growing": ("500", "growing"),
            "kept": ("500", "kept"),
            "250-kept": ("250", "kept"),
            "fast": ("100-cosine", "kept"),
            "fast-15": ("100-cosine", "kept-15"),
            "100-constant-kept": ("100-constant", "kept"),
            "fast-half": ("100-cosine", "kept-half"),
        },
    ),
    "cifar10": Case(
        config="cifar10-resnet20.yaml",
        changes=(
            "training.epochs=20",
            "training.gradrefine.num_batches=4",
            "training.learning_rate=0.0005",
            "evaluation.num_images=500",
        ),
        images={"ours": ()},
        trainings={"full": (), "kept": CIFAR, "kept-half": (*CIFAR, "training.epochs=10")},
        settings={
            "full": ("ours", "full"),
            "fast": ("ours", "kept"),
            "kept-half": ("ours", "kept-half"),
        },
        data="${DFSHIELD_DATA}/surrogate_cifar10_resnet20",
    ),
}
"""By the name of the data."""
