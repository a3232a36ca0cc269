"""How a student does on synthetic images that it was not trained on, without any real image."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dfshield.attacks import frozen, in_float32
from dfshield.pixels import as_floats
from dfshield.results import HoldoutMetrics, has_collapsed
from dfshield.training.group import SingleWorker, WorkerGroup
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.requirements import require_student, require_surrogate


def holdout_metrics(
    student: nn.Module,
    images: Shaped[Tensor, "n c h w"],
    teacher_logits: Float[Tensor, "n k"],
    *,
    inner: InnerMaximization,
    generator: Callable[[int], np.random.Generator],
    batch_size: int = 200,
    group: WorkerGroup | None = None,
) -> HoldoutMetrics:
    """Measure agreement with the teacher, clean and under PGD.

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

    Raises:
        InputError: for a student, images or logits that are none, or do not fit.
    """
    require_student(student)
    require_surrogate(images, teacher_logits)
    student = in_float32(student)
    group = group or SingleWorker()
    device = next(student.parameters()).device
    own: list[tuple[int, Tensor, Tensor]] = []
    chunks = list(enumerate(torch.split(images, batch_size)))
    for index, chunk in chunks[group.rank :: group.size]:
        chunk = as_floats(chunk.to(device))
        perturbed = inner(student, chunk, generator=generator(index))
        with frozen(student), torch.no_grad():
            clean = student(chunk).argmax(dim=1).cpu()
            adversarial = student(perturbed).argmax(dim=1).cpu()
        own.append((index, clean, adversarial))
    measured = sorted(chain.from_iterable(group.all_gather(own)), key=lambda chunk: chunk[0])
    predicted = torch.cat([clean for _, clean, _ in measured])
    predicted_pgd = torch.cat([adversarial for _, _, adversarial in measured])
    expected = teacher_logits.argmax(dim=1).cpu()
    histogram = torch.bincount(predicted, minlength=teacher_logits.shape[1])
    return HoldoutMetrics(
        agreement_clean=(predicted == expected).double().mean().item(),
        agreement_pgd=(predicted_pgd == expected).double().mean().item(),
        histogram=tuple(histogram.tolist()),
        collapsed=has_collapsed(histogram.tolist(), len(predicted)),
    )
