"""SPSA (Uesato et al., 2018): gradient descent with gradients estimated from queries."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ascent import child_generator
from dfshield.attacks.ball import Norm, project
from dfshield.attacks.base import Outcome, QueryAttack
from dfshield.attacks.losses import margin
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least, positive

BETAS = (0.9, 0.999)
TINY = 1e-8


class SPSA(QueryAttack):
    """Adam on the perturbation, ascending the margin ``f = max_{k != y} z_k - z_y``.

    The gradient at x' is estimated as ``1/(2 m) sum_{v, -v} f(x' + delta v) v / delta`` over m
    directions v of independent signs (Rademacher), each asked at both ends: 2 m queries a step, and
    one to see whether the image is wrong by now, which ends it. After each step the perturbation is
    projected. The points that are asked may lie ``delta`` outside [0, 1].

    The original took 8,192 queries for each of 100 steps; the default follows later
    implementations, which take 128 directions. Loss, estimate and Adam work image by image.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        num_steps: of Adam.
        samples: directions m per step.
        delta: size of the differences.
        learning_rate: Adam's.
        batch_size: queries asked at once.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "spsa"

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 100,
        samples: int = 128,
        delta: float | int = 0.01,
        learning_rate: float | int = 0.01,
        batch_size: int = 512,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.samples = at_least(1, samples, "samples")
        self.delta = positive(delta, "delta", most=1.0)
        self.learning_rate = positive(learning_rate, "learning_rate")
        self.batch_size = at_least(2, batch_size, "batch_size")

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Step until an image is wrong or the steps are used up."""
        x_adv, queries = x.clone(), torch.ones_like(y)
        places = self.still_correct(logits_of(model, x), y)
        generators = [child_generator(np.random.SeedSequence(seed), i) for i in range(len(x))]
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(1, self.num_steps + 1):
            if len(places) == 0:
                break
            for place in places.tolist():
                gradient = self._estimate(model, x_adv[place], y[place], generators[place])
                first[place] = BETAS[0] * first[place] + (1 - BETAS[0]) * gradient
                second[place] = BETAS[1] * second[place] + (1 - BETAS[1]) * gradient**2
            mean = first[places] / (1 - BETAS[0] ** step)
            scale = (second[places] / (1 - BETAS[1] ** step)).sqrt() + TINY
            moved = x_adv[places] + self.learning_rate * mean / scale
            x_adv[places] = project(moved, x[places], eps=self.eps, norm=self.norm)
            queries[places] += 2 * self.samples + 1
            places = places[self.still_correct(logits_of(model, x_adv[places]), y[places])]
        return Outcome(x_adv, queries)

    def _estimate(
        self,
        model: nn.Module,
        image: Float[Tensor, "c h w"],
        label: Int[Tensor, ""],
        generator: np.random.Generator,
    ) -> Float[Tensor, "c h w"]:
        """Return the estimated gradient of the margin of one image."""
        total = torch.zeros_like(image)
        left = self.samples
        while left:
            count = min(left, self.batch_size // 2)
            signs = _signs(generator, count, image)
            points = torch.cat([image + self.delta * signs, image - self.delta * signs])
            values = margin(logits_of(model, points), label.expand(2 * count))
            differences = (values[:count] - values[count:]).view(-1, 1, 1, 1)
            total += (differences * signs).sum(0)
            left -= count
        return total / (2 * self.samples * self.delta)

    @property
    def label(self) -> str:
        """``SPSA``."""
        return "SPSA"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {
            **super().describe(),
            "num_steps": self.num_steps,
            "samples": self.samples,
            "delta": self.delta,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
        }


def _signs(
    generator: np.random.Generator, count: int, image: Float[Tensor, "c h w"]
) -> Float[Tensor, "count c h w"]:
    """Return ``count`` directions whose entries are -1 or 1, each with probability 1/2."""
    size = count * image.numel()
    bits = np.unpackbits(np.frombuffer(generator.bytes(-(-size // 8)), np.uint8), count=size)
    signs = torch.from_numpy(bits).to(image.device, image.dtype).mul_(2).sub_(1)
    return signs.view(count, *image.shape)
