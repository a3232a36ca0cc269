"""Everything random about one batch, drawn on the CPU from the batch's own generator."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from dfshield.brief import Brief
from dfshield.seeds import RngStream, generator
from dfshield.synthesis.coefficients import Coefficients, CoefficientSampler

LabelRule = Literal["per_batch", "random", "balanced"]


@dataclass(frozen=True, eq=False, repr=False)
class BatchDraws(Brief):
    """The random part of one batch.

    Attributes:
        labels: artificial labels.
        coefficients: weights of the three loss terms.
        noise: where the optimisation starts, ``N(0, 1)`` in the teacher's normalised space.
        shifts: how far (down, right) the images are rolled in each iteration, in pixels.
    """

    labels: Int64[np.ndarray, " n"]
    coefficients: Coefficients
    noise: Float32[np.ndarray, "n c h w"]
    shifts: Int64[np.ndarray, "iterations 2"]


def draw_labels(
    rule: LabelRule, generator: np.random.Generator, *, batch: int, size: int, num_classes: int
) -> Int64[np.ndarray, " n"]:
    """Return the artificial labels of a batch.

    ``per_batch`` gives the whole batch one class, the *global* batch index modulo the number of
    classes; ``random`` draws independently; ``balanced`` gives every class the same share, the
    remainder going on with the next batch, in random order.
    """
    if rule == "per_batch":
        return np.full(size, batch % num_classes, dtype=np.int64)
    if rule == "random":
        return generator.integers(num_classes, size=size, dtype=np.int64)
    labels = (np.arange(size, dtype=np.int64) + batch * size) % num_classes
    return generator.permutation(labels)


def draw_batch(
    *,
    seed: int,
    stream: RngStream,
    batch: int,
    size: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    labels: LabelRule,
    coefficients: CoefficientSampler,
    jitter: int,
    iterations: int,
) -> BatchDraws:
    """Draw a batch from the generator of ``(seed, stream, batch)``; see the arguments' classes."""
    source = generator(seed, stream, batch)
    return BatchDraws(
        coefficients=coefficients.draw(source),
        labels=draw_labels(labels, source, batch=batch, size=size, num_classes=num_classes),
        noise=source.standard_normal((size, *image_shape), dtype=np.float32),
        shifts=source.integers(-jitter, jitter, size=(iterations, 2), endpoint=True),
    )
