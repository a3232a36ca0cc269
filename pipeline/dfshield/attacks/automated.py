"""Automated: the attacks that break most, found by search (Yao et al., NeurIPS 2021)."""

import importlib.util
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks.automated_search import search
from dfshield.attacks.automated_space import Candidate, parsed_choices
from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.attacks.losses import margin
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least, positive
from dfshield.errors import DfshieldWarning, InputError

TOO_SLOW = -1.0
"""Score of a candidate that takes longer than it may; others are from 0 to 1."""


class Automated(Attack):
    """A sequence of attacks, each found by search on the images that the ones before left.

    Yao et al. (2021): the tree-structured Parzen estimator (Optuna) draws attacks with their losses
    and options; those that break most of a sample are tried on larger ones, a quarter at a time;
    the best is run on all images that stand, and the search begins anew on what is left. Of
    candidates that break as many, the one is better that takes the others' margins further. What
    withstands the sequence comes back unchanged. The sequence that was found is said in a warning,
    and so stands in the notes of a result.

    The search sees the images that are given together: in an evaluation those of a slice, each
    under its own seed, so who computes which does not show. Its authors' DeepFool and C&W, which
    look for the nearest image as FAB does, are left out; their NES is `SPSA` here.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        choices: the attacks to choose from: names, or sections with options that are then fixed,
            ``{name: pgd, loss: dlr}``; None for all that can be searched.
        trials: candidates that are drawn for every attack of the sequence.
        images: of the first sample.
        stages: attacks in the sequence, at most.
        seconds: of a candidate per image, at most; None for no bound. With one, results depend on
            the machine.
        eot: gradients averaged in every step by attacks that can, for a model that draws.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; without Optuna.
    """

    name = "automated"
    independent = False

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        choices: str | Sequence[str | Mapping[str, Any]] | None = None,
        trials: int = 64,
        images: int = 100,
        stages: int = 3,
        seconds: float | int | None = None,
        eot: int = 1,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.trials = at_least(1, trials, "trials")
        self.images = at_least(1, images, "images")
        self.stages = at_least(1, stages, "stages")
        self.seconds = None if seconds is None else positive(seconds, "seconds")
        self.eot = at_least(1, eot, "eot")
        self.given_eps = eps
        self.choices = parsed_choices(choices, eps=eps, norm=norm, eot=self.eot)
        _require_optuna()

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Search and run one attack after the other on the images that stand."""
        places = self.still_correct(logits_of(model, x), y)
        x_adv, sequence = x.clone(), []
        for stage in range(self.stages):
            if len(places) == 0:
                break
            # The first runs under the seed that it would have by itself.
            of_stage = np.random.SeedSequence(seed, spawn_key=(stage,)).generate_state(1)[0]
            own = int(of_stage) if stage else seed
            best = self._found(model, x, y, places, own)
            sequence.append(str(best))
            found = self._run(best, model, x[places], y[places], own)
            stands = torch.zeros(len(places), dtype=torch.bool, device=x.device)
            stands[self.still_correct(logits_of(model, found), y[places])] = True
            moved = ~stands if self.spare_broken else torch.ones_like(stands)
            x_adv[places[moved]] = found[moved]
            places = places[stands]
        if sequence:
            said = f"automated ran what it found: {', then '.join(sequence)}"
            warnings.warn(said, DfshieldWarning, stacklevel=4)
        return x_adv

    def _found(
        self,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        places: Int[Tensor, " standing"],
        seed: int,
    ) -> Candidate:
        """Return the candidate that does best on images that stand."""

        def score(candidate: Candidate, on: Int[Tensor, " m"]) -> float:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DfshieldWarning)
                x_adv = self._run(candidate, model, x[on], y[on], seed)
            if self.seconds and time.perf_counter() - started > self.seconds * len(on):
                return TOO_SLOW
            logits = logits_of(model, x_adv)
            near = margin(logits, y[on]).sigmoid()
            broken: Bool[Tensor, " m"] = (logits.argmax(1) != y[on]) | ~logits.isfinite().all(1)
            return float(torch.where(broken, 1.0, near / len(on)).mean())

        return search(
            score,
            self.choices,
            places,
            trials=self.trials,
            sample=self.images,
            eps=self.eps,
            seed=seed,
        )

    def _run(
        self,
        candidate: Candidate,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        seed: int,
    ) -> Float[Tensor, "n c h w"]:
        attack = candidate.attack(eps=self.given_eps, norm=self.norm)
        attack.spare_broken = self.spare_broken
        return attack(model, x, y, seed=seed)

    @property
    def draws(self) -> int:
        """Gradients averaged in every step, by the attacks that can."""
        return self.eot

    @property
    def label(self) -> str:
        """``Automated``."""
        return "Automated"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        choices = [{"name": each.name, **each.given} for each in self.choices]
        return {
            **super().describe(),
            "choices": json.dumps(choices, sort_keys=True),
            "trials": self.trials,
            "images": self.images,
            "stages": self.stages,
            **({} if self.seconds is None else {"seconds": self.seconds}),
            **({"eot": self.eot} if self.eot > 1 else {}),
        }


def _require_optuna() -> None:
    """Raise `InputError` without Optuna."""
    if importlib.util.find_spec("optuna") is None:  # importing it would cost every configuration
        raise InputError("automated needs Optuna: pip install 'dfshield[optuna]'")
