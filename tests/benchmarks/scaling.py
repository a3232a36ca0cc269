"""How cost grows with the work: images ×1, ×4, ×16, and K from 1 to 40.

    python tests/benchmarks/scaling.py [--json FILE]

Synthesis of 200, 800 and 3,200 images and updates of 1 to 40 mini-batches of 50 images, on a small
classifier and the plain path: what is looked at is how it grows. `per unit` is of the first row.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from adversarial_step import trainer_of
from measuring import peak_megabytes, show, start

from dfshield.classifiers import Classifier, build
from dfshield.synthesis import Inversion

BATCHES, GROUPS = (1, 4, 16), (1, 5, 10, 20, 40)
SIZE, ITERATIONS = 50, 40


def small() -> Classifier:
    return build(
        "dfshield:resnet8", input_shape=(1, 12, 12), num_classes=10, mean=[0.5], std=[0.25]
    )


def synthesis(batches: int) -> Callable[[], None]:
    inversion = Inversion(small(), iterations=ITERATIONS)

    def work() -> None:
        for batch in range(batches):
            inversion.synthesize(seed=0, batch=batch)

    return work


def update(num_batches: int) -> Callable[[], object]:
    images = torch.rand(40 * SIZE, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return trainer_of(small(), images, size=SIZE, eps=0.1, num_batches=num_batches).step


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the fastest of a few calls: growth is looked for, not other people's work."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main(
    json: Annotated[str | None, typer.Option(help="Write the rows here.")] = None,
) -> None:
    start()
    rows = []
    for title, sizes, make in (
        ("images × ", BATCHES, synthesis),
        ("K = ", GROUPS, update),
    ):
        first = 0.0
        for size in sizes:
            taken = seconds(make(size))
            first = first or taken / sizes[0]
            rows.append(
                {
                    "case": f"{title}{size}",
                    "fast_ms": round(1e3 * taken, 1),
                    "per unit": round(taken / size / first, 2),
                    "peak_mb": peak_megabytes(),
                }
            )
    show("Cost as the work grows", rows, json)


if __name__ == "__main__":
    typer.run(main)
