"""What GradRefine costs, as K grows: equations 9 and 10 against the published recipe.

    python tests/benchmarks/gradrefine.py [--case resnet20] [--rounds 5] [--json FILE]

An update of K mini-batches whose gradients are there already: accumulated and refined, and one SGD
step. The cost per mini-batch should fall with K towards that of `accumulate`: a straight line.
"""

from typing import Annotated

import torch
import typer
from adversarial_step import EPS, sgd
from measuring import by_turns, classifier, row, show, start
from reference import ReferenceTraining

from dfshield.training import GradRefine

SIZES = (1, 5, 10, 20, 40)


def measured(case: str, num_batches: int, *, rounds: int) -> dict[str, object]:
    reference = ReferenceTraining(classifier(case), classifier(case), sgd, eps=EPS)
    student = classifier(case).requires_grad_(True)
    parameters = list(student.parameters())
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=generator) for p in parameters]
    refine = GradRefine(sgd(parameters))

    def by_recipe() -> None:
        reference.gradients = [gradients] * num_batches
        reference.update()

    def fast() -> None:
        for _ in range(num_batches):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            refine.accumulate()
        refine.step()

    taken = by_turns({"reference": by_recipe, "fast": fast}, rounds=rounds)
    result = row(f"{case}, K = {num_batches}", taken)
    return {**result, "fast_ms_per_batch": round(result["fast_ms"] / num_batches, 3)}


def main(
    case: Annotated[str, typer.Option(help="The architecture.")] = "resnet20",
    rounds: int = 5,
    json: Annotated[str | None, typer.Option(help="Write the rows here.")] = None,
) -> None:
    start()
    rows = [measured(case, num_batches, rounds=rounds) for num_batches in SIZES]
    show("An update of K mini-batches, without their gradients", rows, json)


if __name__ == "__main__":
    typer.run(main)
