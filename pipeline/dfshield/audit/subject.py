"""The model under audit, its images, and what has been found out about them so far."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks import Attack, Norm, frozen, in_float32, make_attack
from dfshield.audit.comparison import Broken
from dfshield.classifiers import gradients
from dfshield.evaluation import (
    NON_FINITE,
    SliceResult,
    as_images,
    evaluate_slices,
    robust_images,
)


class WithoutGradient(nn.Module):
    """A model whose logits carry no gradient, with one of zero, so that attacks on it can run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the model's logits."""
        logits: Tensor = self.model(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)


def differentiable(model: nn.Module, x: Float[Tensor, "n c h w"]) -> nn.Module:
    """Return the model in float32, with a gradient of zero where it has none."""
    model = in_float32(model)
    with frozen(model), gradients():
        logits: Tensor = model(x[:1].clone().requires_grad_())
    return model if logits.requires_grad else WithoutGradient(model)


@dataclass
class Subject:
    """A model, images and a threat model. Every attack on them runs once, however many ask.

    Attributes:
        model: maps images in [0, 1] to logits.
        x: images in [0, 1], on the model's device.
        y: their labels.
        norm: of the threat model.
        eps: its radius.
        seed: of every attack.
        slice_size: images attacked at once.
        tell: called with the label of every attack before it runs.
    """

    model: nn.Module
    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    norm: Norm
    eps: float
    seed: int
    slice_size: int
    tell: Callable[[str], None]
    _slices: dict[str, list[SliceResult]] = field(default_factory=dict)
    _within: list[Attack] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.y)

    def attack(self, name: str, **options: Any) -> Attack:
        """Return an attack of this threat model, unless the options name another one."""
        return make_attack(name, **{"eps": self.eps, "norm": self.norm, **options})

    def slices(self, attack: Attack | None) -> list[SliceResult]:
        """Return what became of the images under an attack, or without one."""
        key = attack.slug if attack else "clean"
        if key not in self._slices:
            self.tell(
                f"{attack.label}, {attack.norm} {attack.eps:.3g}" if attack else "Clean images"
            )
            self._slices[key] = evaluate_slices(
                self.model,
                as_images((self.x, self.y)),
                attack,
                slice_size=self.slice_size,
                seed=self.seed,
            )
            if attack is not None and attack.norm == self.norm and attack.eps <= self.eps:
                self._within.append(attack)
        return self._slices[key]

    def broken(self, attack: Attack | None) -> Broken:
        """Return which images are wrong when clean or under an attack."""
        return ~np.concatenate([robust_images(part) for part in self.slices(attack)])

    @cached_property
    def num_classes(self) -> int:
        """Classes of the model."""
        return self.slices(None)[0].num_classes

    @property
    def randomised(self) -> bool:
        """Whether the model has answered the same images differently when asked twice."""
        return any(part.randomised for parts in self._slices.values() for part in parts)

    def worst_case(self) -> Broken:
        """Return which images are wrong under any attack within the threat model so far."""
        outcomes = [self.broken(attack) for attack in self._within]
        worst: Broken = np.logical_or.reduce([self.broken(None), *outcomes])
        return worst

    def non_finite(self) -> int:
        """Return how many images gave logits that are not finite, under any attack so far."""
        found = np.zeros(len(self), dtype=bool)
        for parts in self._slices.values():
            found |= np.concatenate([p.adversarial_predictions for p in parts]) == NON_FINITE
        return int(found.sum())

    def logits(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the model's answer in eval mode, slice by slice."""
        with frozen(self.model), torch.no_grad():
            return torch.cat([self.model(part) for part in torch.split(x, self.slice_size)])

    def gradient(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        """Return the gradient of every image's cross-entropy, slice by slice."""
        gradients: list[Tensor] = []
        with frozen(self.model), torch.enable_grad():
            for start in range(0, len(x), self.slice_size):
                rows = slice(start, start + self.slice_size)
                part = x[rows].detach().requires_grad_()
                loss = F.cross_entropy(self.model(part), y[rows], reduction="sum")
                gradients += torch.autograd.grad(loss, [part])
        return torch.cat(gradients)
