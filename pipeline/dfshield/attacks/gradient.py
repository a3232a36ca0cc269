"""FGSM and PGD."""

from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ascent import Ascent, Batch, Objective, draw_by_place
from dfshield.attacks.ball import Norm, random_start
from dfshield.attacks.base import Attack
from dfshield.attacks.losses import LOSSES, cross_entropy, loss_for
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least, one_of
from dfshield.divergence import kl_divergence
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError

KL = "kl"


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
        places = self.still_correct(logits_of(model, x), y)

        def objective(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x_adv)
            return cross_entropy(logits, y[places]), logits

        x_adv = x.clone()
        if len(places):
            x_adv[places] = Ascent(
                num_steps=1, step_size=self.eps, eps=self.eps, norm=self.norm
            ).run(
                objective,
                x[places],
                start=x[places],
                places=places,
                draw=draw_by_place(np.random.SeedSequence(seed), x.shape[1:]),
            )
        return x_adv


class PGD(Attack):
    """Projected gradient descent (Madry et al., 2018).

    The last iterate counts, right or wrong.

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        num_steps: number of gradient steps, the k of PGD-k.
        step_size: step size, as a number or ``"2/255"``; None is ``eps / 4``.
        restarts: runs from different random starts. An image that a run has broken is not attacked
            again; of the others the run with the largest loss is kept.
        random_start: start uniformly in the ball; otherwise at the image.
        loss: what is ascended: ``ce`` the cross-entropy; ``cw`` the margin
            ``max_{k != y} z_k - z_y``; ``dlr`` the margin over a difference of logits (with two
            classes the margin itself, which a warning says); ``l1`` minus the label's probability,
            ``logit`` minus its logit; ``kl`` the divergence
            ``KL(p(x) || p(x'))`` from the clean prediction, which has no gradient at the image
            itself and so needs the random start.
        eot: gradients averaged in every step, for a model that draws random numbers.
        norm: ``linf`` or ``l2``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "pgd"
    takes_step = True

    def __init__(
        self,
        *,
        eps: float | int | str,
        num_steps: int = 20,
        step_size: float | int | str | None = None,
        restarts: int = 1,
        random_start: bool = True,
        loss: str = "ce",
        eot: int = 1,
        norm: Norm = "linf",
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.restarts = at_least(1, restarts, "restarts")
        self.eot = at_least(1, eot, "eot")
        self.step_size = (
            self.eps / 4 if step_size is None else parse_epsilon(step_size, key="step_size")
        )
        if step_size is not None and self.step_size == 0:
            raise InputError(f"step_size: {step_size!r} must be above 0")
        if not isinstance(random_start, bool):
            raise InputError(f"random_start: {random_start!r} must be true or false")
        if restarts > 1 and not random_start:
            raise InputError("restarts: more than 1 repeats the same run without random_start")
        self.random_start = random_start
        self.loss = one_of((*LOSSES, KL), loss, "loss")
        if loss == KL and not random_start:
            raise InputError("loss: 'kl' has no gradient at the image itself: use random_start")

    @final
    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run the restarts, each on the images that are still classified correctly."""
        clean = logits_of(model, x)
        places = self.still_correct(clean, y)
        if len(places) == 0:
            return x.clone()
        objective = self._objective(model, Batch(x, y, clean))
        worst, largest = x.clone(), torch.full_like(clean[:, 0], -float("inf"))
        for restart in range(self.restarts):
            run = np.random.SeedSequence(seed, spawn_key=(restart,) if restart else ())
            start = self._start(x, run)
            x_adv = self._ascent().run(
                objective,
                x[places],
                start=start[places],
                places=places,
                draw=draw_by_place(run, x.shape[1:]),
                y=y[places],
            )
            if self.restarts == 1:
                worst[places] = x_adv
                break
            with torch.no_grad():
                losses, logits = objective(x_adv, places)
            correct = self.still_correct(logits, y[places])
            broken = torch.ones_like(losses, dtype=torch.bool)
            broken[correct] = False
            # A NaN loss is never the larger one: the first run of an image is kept in any case.
            better = broken | (losses > largest[places]) | (restart == 0)
            worst[places[better]], largest[places[better]] = x_adv[better], losses[better]
            places = places[correct]
            if len(places) == 0:
                break
        return worst

    def _start(
        self, x: Float[Tensor, "n c h w"], seed: np.random.SeedSequence
    ) -> Float[Tensor, "n c h w"]:
        if not self.random_start:
            return x
        generator = np.random.default_rng(seed)
        return random_start(x, eps=self.eps, norm=self.norm, generator=generator)

    def _ascent(self) -> Ascent:
        return Ascent(
            num_steps=self.num_steps,
            step_size=self.step_size,
            eps=self.eps,
            norm=self.norm,
            draws=self.eot,
        )

    @property
    def draws(self) -> int:
        """Gradients averaged in every step."""
        return self.eot

    def _objective(self, model: nn.Module, batch: Batch) -> Objective:
        """Return what is ascended."""
        if self.loss == KL:

            def divergence(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
                logits = model(x_adv)
                return kl_divergence(batch.clean[places], logits, reduction="none"), logits

            return divergence
        loss = loss_for(self.loss, batch.clean.shape[1])

        def of_labels(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x_adv)
            return loss(logits, batch.y[places]), logits

        return of_labels

    @property
    def passes(self) -> float | None:
        """Two for every step: backward to the images costs what forward does."""
        return 2.0 * self.num_steps * self.restarts * self.eot

    @property
    def label(self) -> str:
        """``PGD-20``, with what differs from a single run on the cross-entropy."""
        extra = [self.loss.upper()] if self.loss != "ce" else []
        extra += [f"{self.restarts} restarts"] if self.restarts > 1 else []
        extra += [f"EOT {self.eot}"] if self.eot > 1 else []
        return f"PGD-{self.num_steps}" + (f" ({', '.join(extra)})" if extra else "")

    @property
    def _stem(self) -> str:
        return f"{self.name}-{self.num_steps}"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {
            **super().describe(),
            "num_steps": self.num_steps,
            "step_size": self.step_size,
            "restarts": self.restarts,
            "random_start": self.random_start,
            "loss": self.loss,
            **({"eot": self.eot} if self.eot > 1 else {}),  # results of before know of none
        }
