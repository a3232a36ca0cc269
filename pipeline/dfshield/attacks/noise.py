"""The control: random noise, which every attack must beat."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ascent import child_generator
from dfshield.attacks.ball import Norm, random_start
from dfshield.attacks.base import Outcome, QueryAttack
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least


class Noise(QueryAttack):
    """Noise drawn uniformly from the ball, clipped to [0, 1]; a draw that is wrong is kept.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        samples: draws per image; an image whose prediction is wrong gets no more.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "noise"

    def __init__(self, *, eps: float | int | str, norm: Norm = "linf", samples: int = 1) -> None:
        super().__init__(eps=eps, norm=norm)
        self.samples = at_least(1, samples, "samples")

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Draw until an image is wrong; keep the last draw."""
        x_adv, queries = x.clone(), torch.ones_like(y)
        places = self.still_correct(logits_of(model, x), y)
        for sample in range(self.samples):
            if len(places) == 0:
                break
            generator = child_generator(np.random.SeedSequence(seed), sample)
            noisy = random_start(x, eps=self.eps, norm=self.norm, generator=generator)
            x_adv[places] = noisy[places]
            queries[places] += 1
            places = places[self.still_correct(logits_of(model, x_adv[places]), y[places])]
        return Outcome(x_adv, queries)

    @property
    def label(self) -> str:
        """``Noise``, and the number of draws where there are several."""
        return "Noise" if self.samples == 1 else f"Noise ({self.samples} draws)"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {**super().describe(), "samples": self.samples}
