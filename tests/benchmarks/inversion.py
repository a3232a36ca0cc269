"""How fast synthesis is: an iteration on one batch, against the published recipe.

    python tests/benchmarks/inversion.py [--case resnet20] [--rounds 7] [--beside] [--json FILE]

`reference.py` is the recipe at its own cost, `plain` the plain path, `fast` the fastest of those
that an engine trial compares here: compiled, in float32 or in bfloat16 where the processor
multiplies in it. ``--beside`` keeps a core busy by a process of the lowest priority. `limit` is the
share of the rate of a plain matrix product in that precision that the convolutions of the fast path
reach, all else included in its time; `copies` is how many times a plain copy could have moved the
batch's activations meanwhile.
"""

from functools import partial
from typing import Annotated

import torch
import typer
from measuring import (
    CASES,
    beside,
    by_turns,
    classifier,
    copy_rate,
    keep_fastest,
    operations,
    peak_megabytes,
    rates,
    row,
    share_of_rate,
    show,
    start,
)
from reference import ReferenceInversion

from dfshield.classifiers import Classifier
from dfshield.seeds import RngStream
from dfshield.synthesis import (
    BatchDraws,
    BatchedInversion,
    CoefficientSampler,
    draw_batch,
    optimise,
)

LEARNING_RATE = 0.1
STEPS = 5
"""Iterations in a turn: a part has thousands, so that what it begins with does not count."""


def draws_of(teacher: Classifier, *, size: int, iterations: int) -> BatchDraws:
    return draw_batch(
        seed=0,
        stream=RngStream.SYNTHESIS,
        batch=0,
        size=size,
        image_shape=teacher.input_shape,
        num_classes=teacher.num_classes,
        labels="per_batch",
        coefficients=CoefficientSampler(),
        jitter=2,
        iterations=iterations,
    )


def activation_bytes(teacher: Classifier, size: int) -> int:
    """Return the bytes of all layers' outputs of a batch in float32."""
    total = 0

    def add(_module: object, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * 4

    leaves = [m for m in teacher.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(add) for leaf in leaves]
    with torch.no_grad():
        teacher(torch.zeros(1, *teacher.input_shape))
    for hook in hooks:
        hook.remove()
    return total * size


def measured(case: str, *, size: int, rounds: int) -> dict[str, object]:
    ways = start()
    teacher = classifier(case)
    draws = draws_of(teacher, size=size, iterations=STEPS * (rounds + 1))
    turn = draws_of(teacher, size=size, iterations=STEPS)
    reference = ReferenceInversion(teacher, draws, learning_rate=LEARNING_RATE)
    teacher.requires_grad_(False)
    batched = {
        way.precision: BatchedInversion(
            teacher.network,
            groups=1,
            size=size,
            image_shape=teacher.input_shape,
            acceleration=way,
        )
        for way in ways
    }

    def by_recipe() -> None:
        for _ in range(STEPS):
            reference.step()

    def plain() -> None:
        optimise(teacher.network, turn, learning_rate=LEARNING_RATE, device=torch.device("cpu"))

    fast = {
        name: partial(way.optimise, [turn], learning_rate=LEARNING_RATE)
        for name, way in batched.items()
    }
    work = operations(plain) / STEPS
    turns = by_turns({"reference": by_recipe, "plain": plain, **fast}, rounds=rounds)
    taken = {name: milliseconds / STEPS for name, milliseconds in turns.items()}
    dtype = keep_fastest(taken, ways)
    result = row(case, taken)
    seconds = result["fast_ms"] / 1e3
    result["limit"] = share_of_rate(work, result["fast_ms"], dtype)
    result["copies"] = round(copy_rate() * seconds / (2 * activation_bytes(teacher, size)), 1)
    result["peak_mb"] = peak_megabytes()
    return result


def main(
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}.")] = None,
    size: int = 200,
    rounds: int = 7,
    busy: Annotated[bool, typer.Option("--beside", help="Beside a busy process.")] = False,
    json: Annotated[str | None, typer.Option(help="Write the rows here.")] = None,
) -> None:
    with beside(busy):
        rows = [
            measured(name, size=size, rounds=rounds)
            for name in case or ("resnet20", "medmnist-resnet18")
        ]
    show(f"An iteration on {size} images; {rates()}", rows, json)


if __name__ == "__main__":
    typer.run(main)
