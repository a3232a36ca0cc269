"""How a student does on synthetic images that it was not trained on, without any real image."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import frozen
from dfshield.training.perturbation import InnerMaximization

COLLAPSE_SHARE = 0.95


@dataclass(frozen=True)
class HoldoutMetrics:
    """Metrics of one epoch on the synthetic hold-out.

    Attributes:
        agreement_clean: share of images that student and teacher give the same class.
        agreement_pgd: share whose adversarial version the student still gives the class that the
            teacher gives the clean one.
        histogram: how many clean images the student assigns to each class.
        collapsed: whether one class takes more than 95 % of them.
    """

    agreement_clean: float
    agreement_pgd: float
    histogram: tuple[int, ...]
    collapsed: bool


def holdout_metrics(
    student: nn.Module,
    images: Float[Tensor, "n c h w"],
    teacher_logits: Float[Tensor, "n k"],
    *,
    inner: InnerMaximization,
    generator: np.random.Generator,
    batch_size: int = 200,
) -> HoldoutMetrics:
    """Measure agreement with the teacher, clean and under PGD.

    Args:
        student: the model to measure; its mode is kept.
        images: hold-out images in [0, 1].
        teacher_logits: the teacher's logits of them.
        inner: crafts the adversarial images.
        generator: where their start comes from.
        batch_size: images per pass.
    """
    device = next(student.parameters()).device
    clean, adversarial = [], []
    for batch in torch.split(images, batch_size):
        batch = batch.to(device)
        perturbed = inner(student, batch, generator=generator)
        with frozen(student), torch.no_grad():
            clean.append(student(batch).argmax(dim=1).cpu())
            adversarial.append(student(perturbed).argmax(dim=1).cpu())
    expected = teacher_logits.argmax(dim=1).cpu()
    predicted = torch.cat(clean)
    histogram = torch.bincount(predicted, minlength=teacher_logits.shape[1])
    return HoldoutMetrics(
        agreement_clean=(predicted == expected).double().mean().item(),
        agreement_pgd=(torch.cat(adversarial) == expected).double().mean().item(),
        histogram=tuple(histogram.tolist()),
        collapsed=histogram.max().item() > COLLAPSE_SHARE * len(predicted),
    )
