"""What `selection.py` measures of a student on synthetic images: figures by SET/QUESTION."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dfshield.attacks import PGD, Norm, random_start
from dfshield.attacks.losses import margin
from dfshield.classifiers import frozen, gradients


@dataclass(frozen=True)
class Subject:
    """A student with its teacher, and one set of images that both are asked about.

    Attributes:
        expected: the teacher's class of each image.
        sureness: the teacher's probability of it.
        eps: of the threat model; ``norm`` likewise.
    """

    student: nn.Module
    teacher: nn.Module
    images: Tensor
    expected: Tensor
    sureness: Tensor
    eps: float
    norm: Norm

    def agreement(self, images: Tensor, expected: Tensor | None = None) -> float:
        """Return the share of images that the student gives the class that is expected."""
        wanted = self.expected if expected is None else expected
        return (classes(self.student, images) == wanted).double().mean().item()


def classes(model: nn.Module, images: Tensor) -> Tensor:
    with frozen(model), torch.no_grad():
        return model(images).argmax(1)


def clean(subject: Subject) -> float:
    return subject.agreement(subject.images)


def attacked(loss: str, factor: float, num_steps: int = 20) -> Callable[[Subject], float]:
    """Return agreement under PGD on a loss at a multiple of eps."""

    def measure(subject: Subject) -> float:
        size = factor * subject.eps
        attack = PGD(eps=size, norm=subject.norm, loss=loss, num_steps=num_steps)
        return subject.agreement(attack(subject.student, subject.images, subject.expected))

    return measure


def noisy(subject: Subject) -> float:
    return subject.agreement(_noise(subject, subject.images))


def _noise(subject: Subject, images: Tensor) -> Tensor:
    rng = np.random.default_rng(1)
    return random_start(images, eps=2 * subject.eps, norm=subject.norm, generator=rng)


def _mixed(subject: Subject, low: float = 0.0, high: float = 1.0) -> Tensor:
    rng, images = np.random.default_rng(0), subject.images
    partners = torch.from_numpy(rng.permutation(len(images)))
    weights = torch.from_numpy(rng.uniform(low, high, size=(len(images), 1, 1, 1))).to(images)
    return weights * images + (1 - weights) * images[partners]


def mixtures(subject: Subject) -> float:
    """Noisy mixtures, the class that the teacher gives them without the noise."""
    mixed = _mixed(subject)
    return subject.agreement(_noise(subject, mixed), classes(subject.teacher, mixed))


def mixtures_both_noisy(subject: Subject) -> float:
    """Noisy mixtures, the class that the teacher gives the same."""
    mixed = _noise(subject, _mixed(subject))
    return subject.agreement(mixed, classes(subject.teacher, mixed))


def mixtures_plain(subject: Subject) -> float:
    mixed = _mixed(subject)
    return subject.agreement(mixed, classes(subject.teacher, mixed))


def between(subject: Subject) -> float:
    """Mixtures near the middle of two images."""
    mixed = _mixed(subject, 0.4, 0.6)
    return subject.agreement(mixed, classes(subject.teacher, mixed))


def distance(subject: Subject) -> float:
    """Mean of the margin over the dual norm of its gradient, 0 where the answer is another."""
    with gradients(), frozen(subject.student):
        images = subject.images.clone().requires_grad_(True)
        margins = -margin(subject.student(images), subject.expected)
        (slopes,) = torch.autograd.grad(margins.sum(), images)
    order = 1 if subject.norm == "linf" else 2
    sizes = torch.linalg.vector_norm(slopes.flatten(1), ord=order, dim=1).clamp_min(1e-12)
    return (margins.detach().clamp_min(0) / sizes).clamp_max(1.0).mean().item()


def flatness(subject: Subject) -> float:
    """Agreement with weights moved by 5 % of their norm at random, the mean of three draws."""
    student, shares = subject.student, []
    kept = {name: weight.clone() for name, weight in student.state_dict().items()}
    for draw in range(3):
        rng = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for weight in student.parameters():
                step = torch.randn(weight.shape, generator=rng)
                weight += 0.05 * weight.norm() * step / step.norm().clamp_min(1e-12)
        shares.append(subject.agreement(subject.images))
        student.load_state_dict(kept)
    return float(np.mean(shares))


def reweighted(subject: Subject) -> float:
    """Agreement under PGD on cross-entropy, every class of the teacher weighing the same."""
    attack = PGD(eps=subject.eps, norm=subject.norm, loss="ce", num_steps=20)
    adversarial = attack(subject.student, subject.images, subject.expected)
    stands = classes(subject.student, adversarial) == subject.expected
    shares = [stands[subject.expected == c].double().mean() for c in subject.expected.unique()]
    return torch.stack(shares).mean().item()


QUESTIONS: dict[str, Callable[[Subject], float]] = {
    "clean": clean,
    "kl": attacked("kl", 1.0, 10),
    "ce": attacked("ce", 1.0),
    "ce-1.5": attacked("ce", 1.5),
    "ce-2": attacked("ce", 2.0),
    "cw": attacked("cw", 1.0),
    "dlr": attacked("dlr", 1.0),
    "noise": noisy,
    "mixtures": mixtures,
    "mixtures-both-noisy": mixtures_both_noisy,
    "mixtures-plain": mixtures_plain,
    "between": between,
    "distance": distance,
    "flatness": flatness,
    "reweighted": reweighted,
}
ELSEWHERE = ("clean", "kl", "ce", "mixtures")
"""What is asked about images other than the hold-out of the training."""
HOLDOUT = "holdout"


def questions_of(images: str) -> tuple[str, ...]:
    return tuple(QUESTIONS) if images == HOLDOUT else ELSEWHERE


def measure(subject: Subject, images: str, known: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of a set that are not known yet, and the seconds that each took."""
    found: dict[str, float] = {}
    for question in questions_of(images):
        key = f"{images}/{question}"
        if key not in known:
            begun = time.process_time()
            found[key] = QUESTIONS[question](subject)
            found[f"seconds:{key}"] = time.process_time() - begun
    return found
