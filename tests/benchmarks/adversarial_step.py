"""How fast the student's training is: a mini-batch of an update, against the published recipe.

    python tests/benchmarks/adversarial_step.py [--case resnet20] [--rounds 3] [--beside]
        [--json FILE]

A mini-batch is PGD-10, the loss and its gradient, with its share of the update of K = 20 of them.
Reference, plain, fast, `limit` and ``--beside`` as in `inversion.py`; GradRefine's share is that of
its own calls in the fast path.
"""

import time
from typing import Annotated

import numpy as np
import torch
import typer
from measuring import (
    CASES,
    beside,
    by_turns,
    classifier,
    keep_fastest,
    operations,
    peak_megabytes,
    rates,
    row,
    share_of_rate,
    show,
    start,
)
from reference import ReferenceTraining
from torch import nn

from dfshield.engine.acceleration import Acceleration
from dfshield.training import AdversarialTrainer, GradRefine, InnerMaximization, SoftLabelObjective

NUM_BATCHES, EPS = 20, 4 / 255


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)


def trainer_of(
    student: nn.Module,
    images: torch.Tensor,
    *,
    size: int,
    eps: float = EPS,
    num_batches: int = 1,
    acceleration: Acceleration | None = None,
) -> AdversarialTrainer:
    student.requires_grad_(True)
    with torch.no_grad():
        logits = student(images)
    return AdversarialTrainer(
        student,
        images=images,
        labels=logits.argmax(dim=1),
        teacher_logits=logits,
        optimizer=sgd(list(student.parameters())),
        objective=SoftLabelObjective(),
        inner=InnerMaximization(eps=eps),
        epochs=1_000_000,
        batch_size=size,
        num_batches=num_batches,
        acceleration=acceleration,
    )


def gradrefine_ms(student: nn.Module) -> float:
    """Return GradRefine's own milliseconds per mini-batch, in an update of K of them."""
    parameters = list(student.parameters())
    refine = GradRefine(sgd(parameters))
    gradients = [torch.randn_like(p) for p in parameters]

    def update() -> None:
        for _ in range(NUM_BATCHES):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            refine.accumulate()
        refine.step()

    (taken,) = by_turns({"update": update}, rounds=5).values()
    return float(np.median(taken)) / NUM_BATCHES


def measured(case: str, *, size: int, rounds: int) -> dict[str, object]:
    ways = start()
    shape = CASES[case][1]
    images = torch.rand(size, *shape, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    reference = ReferenceTraining(classifier(case), classifier(case), sgd, eps=EPS)
    plain = trainer_of(classifier(case), images, size=size)
    fast = {
        way.precision: trainer_of(classifier(case), images, size=size, acceleration=way)
        for way in ways
    }

    def by_recipe() -> None:
        reference.mini_batch(images, noise)

    steps = {name: trainer.step for name, trainer in fast.items()}
    work = operations(plain.step)
    taken = by_turns({"reference": by_recipe, "plain": plain.step, **steps}, rounds=rounds)
    dtype = keep_fastest(taken, ways)
    reference.gradients = reference.gradients[:1] * NUM_BATCHES
    begun = time.perf_counter()
    reference.update()
    taken["reference"] += 1e3 * (time.perf_counter() - begun) / NUM_BATCHES
    result = row(case, taken)
    share = gradrefine_ms(plain.student) / result["fast_ms"]
    result["limit"] = share_of_rate(work, result["fast_ms"], dtype)
    return {**result, "gradrefine": f"{share:.1%}", "peak_mb": peak_megabytes()}


def main(
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}.")] = None,
    size: int = 200,
    rounds: int = 3,
    busy: Annotated[bool, typer.Option("--beside", help="Beside a busy process.")] = False,
    json: Annotated[str | None, typer.Option(help="Write the rows here.")] = None,
) -> None:
    with beside(busy):
        rows = [measured(name, size=size, rounds=rounds) for name in case or ("resnet20",)]
    show(f"A mini-batch of {size} images, K = {NUM_BATCHES}; {rates()}", rows, json)


if __name__ == "__main__":
    typer.run(main)
