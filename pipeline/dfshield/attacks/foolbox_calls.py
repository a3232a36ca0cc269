"""Calls of foolbox's black-box attacks; imported when one of them runs."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from foolbox.attacks.base import MinimizationAttack
from foolbox.attacks.blended_noise import LinearSearchBlendedUniformNoiseAttack
from foolbox.attacks.boundary_attack import BoundaryAttack
from foolbox.attacks.gen_attack import GenAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks.ascent import child_generator
from dfshield.attacks.ball import Norm, perturbation_norm
from dfshield.attacks.models import logits_of
from dfshield.seeds import torch_generators

LIFT = 30.0
"""Added to log-probabilities, so that what foolbox's GenAttack subtracts in error is lost beside
their exponentials, which stay far from overflowing."""
BLENDING_STEPS = 50


class _AllFoundError(Exception):
    """Every image has been broken: raised out of foolbox's loop, which would go on."""


class _Recorder(nn.Module):
    """Stands in for the model: keeps the first success of each image, and counts its queries.

    Broken images are not asked about again.

    Args:
        model: the attacked model.
        y: labels.
        counts: says which of some wrong images, given their places, are a success.
        first: answer to the first call, where it is known already.
    """

    def __init__(
        self,
        model: nn.Module,
        y: Int[Tensor, " n"],
        counts: Callable[[Tensor, Tensor], Bool[Tensor, " n"]],
        *,
        first: Float[Tensor, "n k"] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.y, self.counts, self.first = model, y, counts, first
        self.queries = torch.zeros_like(y)
        self.broken = torch.zeros_like(y, dtype=torch.bool)
        self.images: Tensor | None = None
        self.answer: Tensor | None = None
        self.eval()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return log-probabilities + 30; of a broken image those of its success."""
        if self.first is not None:
            known, self.first = self.first, None
            return known
        places = (~self.broken).nonzero().flatten()
        logits = self.model(x[places])
        lifted = nn.functional.log_softmax(logits, 1) + LIFT
        self.queries[places] += 1
        if self.images is None or self.answer is None:
            self.images, self.answer = x.clone(), lifted.clone()
        self.answer[places] = lifted
        success = (logits.argmax(1) != self.y[places]) & self.counts(x[places], places)
        self.images[places[success]] = x[places[success]]
        self.broken[places[success]] = True
        if bool(self.broken.all()):
            raise _AllFoundError
        return self.answer.clone()

    def merged(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the successes, and ``x`` where there is none."""
        if self.images is None:
            return x
        return torch.where(self.broken.view(-1, 1, 1, 1), self.images, x)

    def wrapped(self) -> PyTorchModel:
        """Return this as foolbox takes it."""
        return PyTorchModel(self, bounds=(0, 1), device=self.y.device)


class _SeededGenAttack(GenAttack):
    """foolbox's GenAttack, which draws parents from NumPy's global generator, with one of its own.

    Parents are drawn in proportion to float64 weights that sum to 1.
    """

    def __init__(self, generator: np.random.Generator, **options: Any) -> None:
        super().__init__(**options)
        self.generator = generator

    def choice(self, a: int, size: Any, replace: bool, p: Any) -> Any:
        weights = p.numpy().astype(np.float64)
        return self.generator.choice(a, size, replace, weights / weights.sum())


def run_genattack(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    clean: Float[Tensor, "n k"],
    eps: float,
    num_steps: int,
    population: int,
    mutation_probability: float,
    mutation_range: float,
    temperature: float,
    random_target: bool,
    seed: int,
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """Return GenAttack's images and the queries for each; see :class:`dfshield.attacks.GenAttack`.

    ``clean`` are the logits of ``x``.
    """
    generator = child_generator(np.random.SeedSequence(seed))
    target = clean.scatter(1, y.view(-1, 1), -float("inf")).argmax(1)
    if random_target:
        away = generator.integers(1, clean.shape[1], len(y))
        target = (y + torch.from_numpy(away).to(y)) % clean.shape[1]
    recorder = _Recorder(model, y, lambda _, places: torch.ones_like(places, dtype=torch.bool))
    attack = _SeededGenAttack(
        generator,
        steps=num_steps,
        population=population,
        mutation_probability=mutation_probability,
        mutation_range=mutation_range,
        sampling_temperature=temperature,
    )
    with torch_generators(seed, x.device), torch.no_grad():
        try:
            last = attack.run(
                recorder.wrapped(),
                x,
                TargetedMisclassification(target),
                epsilon=eps,
            )
        except _AllFoundError:
            last = x
    return recorder.merged(last), recorder.queries


def run_boundary(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    others: tuple[Float[Tensor, "m c h w"], Int[Tensor, " m"]],
    eps: float,
    norm: Norm,
    num_steps: int,
    spherical_step: float,
    source_step: float,
    convergence: float,
    seed: int,
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"], int]:
    """Return Boundary's images, the queries for each, and how many had nowhere to start.

    ``others`` are images with their predictions, to start from where noise is of no use.
    """
    result, queries = x.clone(), torch.zeros_like(y)
    left = torch.arange(len(y), device=y.device)

    def in_ball(images: Tensor, places: Tensor) -> Bool[Tensor, " n"]:
        return perturbation_norm(images - x[left[places]], norm) <= eps

    def search(recorder: _Recorder, attack: MinimizationAttack, **options: Any) -> Tensor:
        with torch_generators(seed, x.device), torch.no_grad():
            try:
                criterion = Misclassification(y[left])
                end: Tensor = attack.run(recorder.wrapped(), x[left], criterion, **options)
            except _AllFoundError:
                end = x[left]
        result[left] = recorder.merged(x[left])
        queries[left] += recorder.queries
        return end

    recorder = _Recorder(model, y, in_ball)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*failed to draw sufficient.*")
        start = search(recorder, LinearSearchBlendedUniformNoiseAttack(steps=BLENDING_STEPS))
    standing = ~recorder.broken
    start, logits = _starting_points(model, start[standing], y[standing], others)
    ready = logits.argmax(1) != y[standing]
    left = left[standing]
    queries[left] += 1  # about the start
    left = left[ready]
    if len(left):
        walk = BoundaryAttack(
            steps=num_steps,
            spherical_step=spherical_step,
            source_step=source_step,
            source_step_convergance=convergence,
        )
        recorder = _Recorder(model, y[left], in_ball, first=logits[ready])
        search(recorder, walk, starting_points=start[ready])
    return result, queries, int((~ready).sum())


def _starting_points(
    model: nn.Module,
    start: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    others: tuple[Float[Tensor, "m c h w"], Int[Tensor, " m"]],
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
    """Return the starting points and their logits.

    A point that is not wrong gives way to the closest (l_2) other image with another prediction
    than its label, where there is one.
    """
    if len(start) == 0:
        return start, start.new_zeros(0, 1)
    start, logits = start.clone(), logits_of(model, start).clone()
    images, predicted = others
    for place in (logits.argmax(1) == y).nonzero().flatten().tolist():
        wrong = images[predicted != y[place]]
        if len(wrong):
            closest = perturbation_norm(wrong - start[place], "l2").argmin()
            start[place] = wrong[closest]
            logits[place] = logits_of(model, wrong[closest : closest + 1])[0]
    return start, logits
