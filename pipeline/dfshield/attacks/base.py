"""The contract of every attack: what goes in, what comes out, what is left as it was."""

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from dfshield.attacks.ball import NORMS, Norm, perturbation_norm, project
from dfshield.attacks.inputs import RANGE_TOLERANCE, check_images, check_labels, check_shape
from dfshield.attacks.models import in_float32, logits_of
from dfshield.brief import Brief
from dfshield.checks import one_of
from dfshield.classifiers import (
    PROBABILITIES,
    are_probabilities,
    frozen,
    gradients,
)
from dfshield.epsilon import parse_epsilon
from dfshield.errors import DfshieldWarning, InputError
from dfshield.families import Variant
from dfshield.seeds import whole_seed

_RECORDED = {"num_steps": "steps", "step_size": "step"}
_ASKED = 16
"""Images whose answers decide whether they are probabilities."""


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Brief):
    """What an attack gives back.

    Attributes:
        images: adversarial images, within the ball and in [0, 1].
        queries: how often the model was asked about each image until it was broken, or until the
            attack gave up; None for an attack that does not count.
    """

    images: Float[Tensor, "n c h w"]
    queries: Int[Tensor, " n"] | None


class Attack(Variant, ABC):
    """An attack: ``attack(model, x, y, seed=0)`` returns adversarial images.

    A subclass writes :meth:`perturb`, sets ``name``, and lists its hyper-parameters in
    :meth:`describe`; everything that must hold for all attacks happens in :meth:`run`. Images that
    the model gets wrong as they are come back unchanged, and cost no more passes.

    Attributes:
        norms: those that the attack is defined for.
        needs_model: the name of the constructor's argument for another model (``teacher``,
            ``source``), or None.
        needs_gradient: whether logits without a gradient are refused.
        sees_model: whether it attacks the model itself, not another one in its place.
        looks_inside: whether it watches a layer of the model, by its place in it.
        takes_step: whether ``step_size`` is the threat model's where the configuration gives none.
        independent: whether an image's result depends on the seed and its place in the batch, but
            (up to rounding) not on the other images.
        ends_early: whether images that are broken leave it, so that it may take far fewer than
            :attr:`passes`.
        spare_broken: set to False to have images attacked that are wrong as they are, as
            :class:`dfshield.attacks.transfer.Transfer` does on its source. What
            runs through pyautoattack leaves them alone in any case.

    Args:
        eps: radius of the ball on the [0, 1] scale of the images, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, or a norm that the attack is not
            defined for, naming it.
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS
    needs_model: ClassVar[str | None] = None
    needs_gradient: ClassVar[bool] = True
    sees_model: ClassVar[bool] = True
    looks_inside: ClassVar[bool] = False
    takes_step: ClassVar[bool] = False
    independent: ClassVar[bool] = True
    ends_early: ClassVar[bool] = False

    def __init__(self, *, eps: float | int | str, norm: Norm = "linf") -> None:
        one_of(NORMS, norm, "norm")
        if norm not in self.norms:
            raise InputError(
                f"norm: {self.name} is not defined for {norm!r}: use {' or '.join(self.norms)}"
            )
        self.eps = parse_epsilon(eps)
        self.norm = norm
        self.spare_broken = True

    @final
    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Integer[Tensor, " n"],
        *,
        seed: int = 0,
    ) -> Float[Tensor, "n c h w"]:
        """Return the adversarial images of :meth:`run`."""
        return self.run(model, x, y, seed=seed).images

    @final
    def run(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Integer[Tensor, " n"],
        *,
        seed: int = 0,
    ) -> Outcome:
        """Return adversarial images within ``eps`` of ``x`` and in [0, 1], detached.

        They are float32, or double where images and weights are.

        The model runs in eval mode; afterwards its mode, ``requires_grad`` and ``grad`` are as
        before, and so is every global random generator. An image on which the model's gradient is
        NaN may come back as NaN, and must be counted as not robust. No image gives no image.

        Args:
            model: maps images in [0, 1] to logits, in any precision; it normalises inside.
            x: images in [0, 1]; at most 1e-6 outside is taken for rounding and clipped.
            y: labels in 0..C-1.
            seed: of everything random in the attack.

        Raises:
            InputError: for images or labels that the model cannot have, or a model whose logits
                carry no gradient.
        """
        check_shape(model, x)
        whole_seed(seed)
        if len(x) == 0:
            return self._nothing(x, y)
        x = check_images(model, x)
        model = in_float32(model)
        with frozen(model):
            with gradients() if self.needs_gradient else torch.enable_grad():
                logits = model(x[:1].clone().requires_grad_())
            if are_probabilities(logits) and are_probabilities(logits_of(model, x[:_ASKED])):
                warnings.warn(PROBABILITIES, DfshieldWarning, stacklevel=3)
            y = check_labels(x, y, logits.shape[1])
            if self.needs_gradient and not logits.requires_grad:
                raise InputError(
                    "the model's logits carry no gradient with respect to its images: "
                    f"{self.label} needs a differentiable model"
                )
            if self.eps == 0:
                return Outcome(x.clone(), None)
            outcome = self.perturb_counting(model, x, y, seed=seed)
        x_adv = outcome.images.detach().clamp(0, 1)
        # What lies in the ball but for rounding stays bit for bit what the attack found.
        outside = perturbation_norm(x_adv - x, self.norm) > self.eps + RANGE_TOLERANCE
        x_adv[outside] = project(x_adv[outside], x[outside], eps=self.eps, norm=self.norm)
        return Outcome(x_adv, outcome.queries)

    def _nothing(self, x: Float[Tensor, "n c h w"], y: Tensor) -> Outcome:
        if len(y):
            raise InputError(f"there are 0 images but {len(y)} labels")
        return Outcome(x.detach().clone(), None)

    @abstractmethod
    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Return adversarial images; the model is in eval mode, its parameters frozen, eps > 0.

        What the user should know about the result is said by ``warnings.warn`` with a
        :class:`dfshield.errors.DfshieldWarning`.
        """

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Return what :meth:`perturb` does, with queries where the attack counts them."""
        return Outcome(self.perturb(model, x, y, seed=seed), None)

    def still_correct(
        self, logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]
    ) -> Int[Tensor, " correct"]:
        """Return the places of the images that are left to attack: those still right."""
        if not self.spare_broken:
            return torch.arange(len(y), device=y.device)
        return (logits.argmax(1) == y).nonzero().flatten()

    @property
    def passes(self) -> float | None:
        """Forward passes over all images at most, or what costs as much; None if not known."""
        return None

    @property
    def draws(self) -> int:
        """Gradients averaged in every step, for a model that draws random numbers (EOT)."""
        return 1

    @property
    def label(self) -> str:
        """The name for tables, such as ``PGD-20``."""
        return self.name.upper()

    def identity(self) -> dict[str, str | int | float | bool]:
        """Return `describe` with the names that results have recorded since the first release."""
        return {_RECORDED.get(key, key): value for key, value in self.describe().items()}

    @property
    def slug(self) -> str:
        """A name for files; attacks that differ in any hyper-parameter have different ones."""
        text = json.dumps(self.identity(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self._stem}-{self.norm}-{self.eps:.4g}-{digest}"

    @property
    def _stem(self) -> str:
        return self.name

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON.

        The version of the algorithm is told from 2 on; there is none in descriptions of before.
        """
        version = {"algorithm": self.algorithm} if self.algorithm > 1 else {}
        return {"name": self.name, "norm": self.norm, "eps": self.eps, **version}

    def standard_suite(self, num_classes: int) -> bool | None:  # noqa: ARG002
        """Say whether the published suite runs as it is; None for an attack that is no suite."""
        return None


class QueryAttack(Attack):
    """An attack that asks for logits alone, and counts how often; see :class:`Outcome`.

    A subclass writes :meth:`perturb_counting`.
    """

    needs_gradient = False

    @final
    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Return the images of :meth:`perturb_counting`."""
        return self.perturb_counting(model, x, y, seed=seed).images

    @abstractmethod
    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Return adversarial images and the queries per image; eps > 0."""
