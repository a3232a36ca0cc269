"""FGSM and PGD on the cross-entropy loss."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm, clip_to_ball, normalise_gradient, random_start
from dfshield.attacks.base import Attack
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError


def cross_entropy_gradient(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    """Return the gradient of every image's cross-entropy with respect to the image."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        # The sum, not the mean: an image's gradient does not depend on its batch.
        loss = F.cross_entropy(model(x), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, [x])
    return gradient


def ascend(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    *,
    start: Float[Tensor, "n c h w"],
    steps: int,
    step: float,
    eps: float,
    norm: Norm,
    generator: np.random.Generator,
) -> Float[Tensor, "n c h w"]:
    """Return the last iterate of ``steps`` steps of projected steepest ascent from ``start``.

    ``x' <- clip_[0,1](x + P(x' + step * d(g) - x))``, g the gradient of the cross-entropy, d its
    steepest direction and P the projection onto the ball of radius ``eps`` (Madry et al., 2018).
    """
    x_adv = start
    for _ in range(steps):
        gradient = cross_entropy_gradient(model, x_adv, y)
        x_adv = x_adv + step * normalise_gradient(gradient, norm, generator)
        # Ball first for l_2 too (unlike `project`): the order in which PGD accuracies are reported.
        x_adv = (x + clip_to_ball(x_adv - x, eps=eps, norm=norm)).clamp(0, 1)
    return x_adv


class FGSM(Attack):
    """Fast gradient sign method: ``x + eps * sign(g)``, clipped to [0, 1].

    Goodfellow et al. (2015), g the gradient of the cross-entropy. With ``norm="l2"`` the step has
    length ``eps`` along the normalised gradient.

    Args:
        eps: radius of the ball and length of the step.
        norm: ``linf`` or ``l2``.
    """

    name = "fgsm"

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Take one step of length eps."""
        return ascend(
            model,
            x,
            y,
            start=x,
            steps=1,
            step=self.eps,
            eps=self.eps,
            norm=self.norm,
            generator=np.random.default_rng(np.random.SeedSequence(seed)),
        )


class PGD(Attack):
    """Projected gradient descent on the cross-entropy (Madry et al., 2018).

    The last iterate counts, right or wrong.

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        steps: number of gradient steps, the k of PGD-k.
        step: step size, as a number or ``"2/255"``; None is ``eps / 4``.
        restarts: runs from different random starts; per image the worst is kept: a wrong
            prediction before a right one, then the larger loss.
        random_start: start uniformly in the ball; otherwise at the image.
        loss: ``ce``, the cross-entropy.
        norm: ``linf`` or ``l2``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "pgd"

    def __init__(
        self,
        *,
        eps: float | int | str,
        steps: int = 20,
        step: float | int | str | None = None,
        restarts: int = 1,
        random_start: bool = True,
        loss: Literal["ce"] = "ce",
        norm: Norm = "linf",
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.steps = _at_least_one(steps, "steps")
        self.restarts = _at_least_one(restarts, "restarts")
        self.step = self.eps / 4 if step is None else parse_epsilon(step, key="step")
        if step is not None and self.step == 0:
            raise InputError(f"step: {step!r} must be above 0")
        if not isinstance(random_start, bool):
            raise InputError(f"random_start: {random_start!r} must be true or false")
        if restarts > 1 and not random_start:
            raise InputError("restarts: more than 1 repeats the same run without random_start")
        if loss != "ce":
            raise InputError(f"loss: {loss!r} is unknown: known is 'ce'")
        self.random_start = random_start
        self.loss = loss

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run all restarts and keep the worst of every image."""
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        worst = self._run(model, x, y, generator)
        if self.restarts == 1:
            return worst
        wrong, loss = _score(model, worst, y)
        for _ in range(self.restarts - 1):
            x_adv = self._run(model, x, y, generator)
            now_wrong, now_loss = _score(model, x_adv, y)
            worse = (now_wrong & ~wrong) | ((now_wrong == wrong) & (now_loss > loss))
            worst = torch.where(worse.view(-1, 1, 1, 1), x_adv, worst)
            wrong, loss = wrong | now_wrong, torch.where(worse, now_loss, loss)
        return worst

    def _run(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        generator: np.random.Generator,
    ) -> Float[Tensor, "n c h w"]:
        start = x
        if self.random_start:
            start = random_start(x, eps=self.eps, norm=self.norm, generator=generator)
        return ascend(
            model,
            x,
            y,
            start=start,
            steps=self.steps,
            step=self.step,
            eps=self.eps,
            norm=self.norm,
            generator=generator,
        )

    @property
    def label(self) -> str:
        """``PGD-20``, and the number of restarts where there are several."""
        suffix = f" ({self.restarts} restarts)" if self.restarts > 1 else ""
        return f"PGD-{self.steps}{suffix}"

    @property
    def _stem(self) -> str:
        return f"pgd-{self.steps}"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {
            **super().describe(),
            "steps": self.steps,
            "step": self.step,
            "restarts": self.restarts,
            "random_start": self.random_start,
            "loss": self.loss,
        }


def _score(
    model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"]
) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"]]:
    """Return what restarts are compared by: is the prediction wrong, and the loss."""
    with torch.no_grad():
        logits = model(x)
    return logits.argmax(1) != y, F.cross_entropy(logits, y, reduction="none")


def _at_least_one(value: int, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{key}: {value!r} must be a whole number of at least 1")
    return value
