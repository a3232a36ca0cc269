"""How a student does on synthetic images that it was not trained on, without any real image."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from dfshield.attacks import in_float32
from dfshield.classifiers import require_module
from dfshield.errors import InputError
from dfshield.pixels import as_floats
from dfshield.results import AGREEMENT_CLEAN, AGREEMENT_PGD, HoldoutMetrics, has_collapsed
from dfshield.training.group import SingleWorker, WorkerGroup
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure
from dfshield.training.measures.questions import classes_of
from dfshield.training.requirements import require_kind, require_student, require_surrogate


def holdout_metrics(
    student: nn.Module,
    images: Shaped[Tensor, "n c h w"],
    teacher_logits: Float[Tensor, "n k"],
    *,
    inner: InnerMaximization,
    generator: Callable[[int], np.random.Generator],
    batch_size: int = 200,
    group: WorkerGroup | None = None,
    measure: HoldoutMeasure | None = None,
    teacher: nn.Module | None = None,
) -> HoldoutMetrics:
    """Measure agreement with the teacher, clean and under PGD, and a measure if one is given.

    The workers of a group call this together, each with all images; chunk c of them is computed by
    worker ``c mod size``. All get the same metrics, and so for every size.

    Args:
        student: the model to measure; its mode is kept.
        images: hold-out images: float32 or float16 in [0, 1], or uint8 in [0, 255].
        teacher_logits: the teacher's logits of them.
        inner: crafts the adversarial images.
        generator: gives, for the index of a chunk, what its start is drawn from.
        batch_size: images per chunk.
        group: the workers that measure together; None is this one alone.
        measure: is taken besides; what it draws has a generator of its own.
        teacher: on the student's device; it is asked where there is a measure.

    Raises:
        InputError: for a student, images or logits that are none, or do not fit; for a measure
            without a teacher.
    """
    require_student(student)
    require_surrogate(images, teacher_logits)
    _require_measure(measure, teacher)
    student = in_float32(student)
    group = group or SingleWorker()
    device = next(student.parameters()).device
    expected = teacher_logits.argmax(dim=1).cpu()
    parts = zip(torch.split(images, batch_size), torch.split(expected, batch_size), strict=True)
    answers = partial(_answers, student, teacher, inner=inner, measure=measure)
    own = []
    for index, (part, wanted) in list(enumerate(parts))[group.rank :: group.size]:
        x = as_floats(part.to(device))
        own.append((index, *answers(x, wanted.to(device), rng=generator(index))))
    measured = sorted(chain.from_iterable(group.all_gather(own)), key=lambda one: one[0])
    predicted = torch.cat([clean for _, clean, _, _ in measured])
    predicted_pgd = torch.cat([attacked for _, _, attacked, _ in measured])
    histogram = torch.bincount(predicted, minlength=teacher_logits.shape[1]).tolist()
    return HoldoutMetrics(
        agreement_clean=(predicted == expected).double().mean().item(),
        agreement_pgd=(predicted_pgd == expected).double().mean().item(),
        histogram=tuple(histogram),
        collapsed=has_collapsed(histogram, len(predicted)),
        scores=_scores(measure, [asked for *_, asked in measured]),
    )


def _require_measure(measure: HoldoutMeasure | None, teacher: nn.Module | None) -> None:
    if measure is None:
        return
    require_kind(measure, HoldoutMeasure, "measure")
    if teacher is None:
        raise InputError("teacher: is needed beside measure")
    require_module(teacher, "teacher")


def _answers(
    student: nn.Module,
    teacher: nn.Module | None,
    images: Float[Tensor, "n c h w"],
    expected: Int[Tensor, " n"],
    *,
    inner: InnerMaximization,
    rng: np.random.Generator,
    measure: HoldoutMeasure | None,
) -> tuple[Tensor, Tensor, Agreements]:
    """Return the student's classes, clean and attacked, and what a measure asks, on the CPU."""
    adversarial = inner(student, images, generator=rng)
    clean, attacked = classes_of(student, images), classes_of(student, adversarial)
    asked: Agreements = {}
    if measure is not None and teacher is not None:
        chunk = Chunk(
            student=student,
            teacher=teacher,
            images=images,
            expected=expected,
            clean=clean,
            attacked=attacked,
            eps=inner.eps,
            norm=inner.norm,
            rng=rng.spawn(1)[0],
        )
        asked = {key: agreeing.cpu() for key, agreeing in measure.ask(chunk).items()}
    return clean.cpu(), attacked.cpu(), asked


def _scores(measure: HoldoutMeasure | None, asked: Sequence[Agreements]) -> dict[str, float]:
    """Return the score of a measure by its name, unless it is a figure of every epoch anyway."""
    if measure is None or measure.name in (AGREEMENT_CLEAN, AGREEMENT_PGD):
        return {}
    whole = {key: torch.cat([part[key] for part in asked]) for key in asked[0]}
    return {measure.name: measure.score(whole)}
