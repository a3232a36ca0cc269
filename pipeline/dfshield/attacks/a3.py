"""A3, the adaptive auto attack of Liu et al. (CVPR 2022)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfshield.attacks.a3_schedule import (
    LEAST_IMAGES,
    LEAST_STEPS,
    NUM_ROUNDS,
    Learned,
    directions,
    rivals,
    round_of,
    step_size,
)
from dfshield.attacks.ascent import gradient_and_logits
from dfshield.attacks.ball import Norm, clip_to_ball, random_start, steepest_direction
from dfshield.attacks.base import Attack
from dfshield.attacks.losses import margin
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least

MASKED = 0.05
"""A classifier counts as one that falls to directions from this share of its images on."""


class A3(Attack):
    """Adaptive auto attack (Liu et al. 2022): 13 rounds of PGD on the margin from directed starts.

    A run starts uniformly in the ball, takes steps of size eps that ascend ``w . z``, and then
    steps that ascend the margin ``max_{k != y} z_k - z_y``, whose size falls from eps by a cosine.
    *Adaptive direction initialisation*: w is random at first; later its entries at the label and at
    a likely other class are drawn around those that broke images before. *Online statistics-based
    discarding*: a round attacks the share of the images still right whose margin came closest to 0,
    from all in the first rounds to 3 % in the last (at least 100 images, or all that are left).
    Rounds, steps, shares and restarts are those that its authors released, for any number of
    classes. An image that withstands everything comes back where its margin was largest.

    Which images are discarded, and which directions are drawn, depends on all images that are given
    together: in an evaluation those of a slice, each under its own seed, so the number of workers
    does not show. Slices of up to 100 images discard none.

    The released script multiplies by the images of a round where its budget divides by them, so
    that there the budget bounds nothing before it is used up. Here it divides, and the attack ends.

    Args:
        eps: radius of the ball.
        norm: ``linf`` or ``l2``.
        budget: gradients per image given, on average, that the rounds may take in all.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it.
    """

    name = "a3"
    independent = False

    def __init__(self, *, eps: float | int | str, norm: Norm = "linf", budget: int = 1000) -> None:
        super().__init__(eps=eps, norm=norm)
        self.budget = at_least(1, budget, "budget")

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Run the rounds until no image is left or the budget is used up."""
        places = self.still_correct(logits_of(model, x), y)
        if len(places) == 0:
            return x.clone()
        search = _Search(self, model, x, y, places, seed)
        for number in range(NUM_ROUNDS):
            search.run_round(number)
        return search.worst

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {**super().describe(), "budget": self.budget}


@dataclass
class _Run:
    """The images of a run that still stand.

    Attributes:
        places: in the batch.
        w: their directions.
        x: the images.
        x_adv: where the run has come to.
    """

    places: Int[Tensor, " n"]
    w: Float[Tensor, "n k"]
    x: Float[Tensor, "n c h w"]
    x_adv: Float[Tensor, "n c h w"]

    def only(self, marked: Bool[Tensor, " n"]) -> "_Run":
        """Return the run of the marked images."""
        return _Run(self.places[marked], self.w[marked], self.x[marked], self.x_adv[marked])


class _Search:
    """What an attack by `A3` has found, what stands, and what it has learned.

    Args:
        attack: its settings.
        model: under attack.
        x: all images.
        y: their labels.
        places: of the images to attack.
        seed: of all draws.
    """

    def __init__(
        self,
        attack: A3,
        model: nn.Module,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        places: Int[Tensor, " places"],
        seed: int,
    ) -> None:
        self.attack, self.model, self.x, self.y = attack, model, x, y
        self.generator = np.random.default_rng(np.random.SeedSequence(seed))
        start = self._first_start()
        logits = logits_of(model, start)
        self.rivals = rivals(logits, y)
        self.worst, self.largest = x.clone(), torch.full_like(logits[:, 0], -float("inf"))
        self.stands = torch.zeros_like(y, dtype=torch.bool)
        self._keep(places, start[places], logits[places])
        self.left, self.turn = attack.budget * len(x), -1
        self.learned, self.fallen_to_directions, self.stood = Learned(), 0, 0

    @property
    def standing(self) -> Int[Tensor, " standing"]:
        """The places of the images that are left to attack."""
        return self.stands.nonzero().flatten()

    def _first_start(self) -> Float[Tensor, "n c h w"]:
        """Return a random corner of every l_inf ball; for l_2 the images themselves."""
        if self.attack.norm == "l2":
            return self.x
        signs = np.sign(self.generator.uniform(-1, 1, size=tuple(self.x.shape)))
        return (self.x + self.attack.eps * torch.from_numpy(signs).to(self.x)).clamp(0, 1)

    def run_round(self, number: int) -> None:
        """Run the restarts of a round, each on the images closest to failing."""
        count = len(self.standing)
        if number == 1:
            self.stood = count
        masked = number > 2 and self.fallen_to_directions >= MASKED * self.stood
        few = count < len(self.x) / 10
        planned = round_of(number, self.rivals.shape[1] + 1, masked=masked, few_stand=few)
        for _ in range(planned.restarts):
            places = self._closest(planned.share)
            if len(places) == 0 or self.left <= 0:
                return
            fair = self.left // (planned.restarts * (NUM_ROUNDS - number) * len(places))
            w = directions(
                self.generator,
                self.y[places],
                self.rivals[places],
                number=number,
                turn=self.turn,
                masked=masked,
                learned=self.learned,
            )
            num_steps = min(max(fair, LEAST_STEPS), planned.num_steps)
            self._run(places, w.to(self.x), planned.directed, num_steps, learn=number == 1)
            self.turn += 1

    def _closest(self, share: float) -> Int[Tensor, " places"]:
        """Return the places of the standing images whose margin has come closest to 0."""
        standing = self.standing
        count = max(LEAST_IMAGES, int(len(standing) * share))
        if count >= len(standing):
            return standing
        return standing[self.largest[standing].topk(count).indices.sort().values]

    def _run(
        self,
        places: Int[Tensor, " n"],
        w: Float[Tensor, "n k"],
        directed: int,
        num_steps: int,
        *,
        learn: bool,
    ) -> None:
        """Attack images once, from one random start; those that fall take no further step.

        Args:
            places: of the images.
            w: their directions.
            directed: steps along these.
            num_steps: on the margin, after them.
            learn: whether the directions of images that fall are learned from.
        """
        eps, norm = self.attack.eps, self.attack.norm
        x = self.x[places]
        run = _Run(places, w, x, random_start(x, eps=eps, norm=norm, generator=self.generator))
        for step in range(directed + num_steps + 1):
            gradient, logits = self._gradient(run, along=step < directed)
            self.left -= len(run.places)
            stands = self._keep(run.places, run.x_adv, logits)
            fallen = ~stands
            if learn:
                labels = self.y[run.places[fallen]]
                self.learned.add(run.w[fallen], labels, logits[fallen].argmax(1))
            if step <= directed and directed:
                self.fallen_to_directions += int(fallen.sum())
            if fallen.all():
                return
            run = run.only(stands)
            size = eps if step < directed else step_size(step - directed, num_steps, eps)
            moved = run.x_adv + size * steepest_direction(gradient[stands], norm, self._draw)
            inside = run.x + clip_to_ball(moved - run.x, eps=eps, norm=norm)
            run.x_adv = inside.clamp(0, 1)

    def _gradient(
        self, run: _Run, *, along: bool
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n k"]]:
        """Return the gradient of ``w . z``, or of the margin, and the logits."""

        def objective(x_adv: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.model(x_adv)
            loss = (run.w * logits).sum(1) if along else margin(logits, self.y[places])
            return loss, logits

        return gradient_and_logits(objective, run.x_adv, run.places)

    def _draw(self, flat: Bool[Tensor, " n"]) -> np.ndarray:
        """Return a direction for every image without a gradient (l_2)."""
        return self.generator.standard_normal((int(flat.sum()), *self.x.shape[1:]))

    def _keep(
        self,
        places: Int[Tensor, " n"],
        x_adv: Float[Tensor, "n c h w"],
        logits: Float[Tensor, "n k"],
    ) -> Bool[Tensor, " n"]:
        """Keep the images whose margin is the largest so far, and those that are wrong.

        Returns:
            Which of them still stand.
        """
        labels = self.y[places]
        stands = torch.zeros_like(labels, dtype=torch.bool)
        stands[self.attack.still_correct(logits, labels)] = True
        margins = margin(logits, labels)
        better = ~stands | (margins > self.largest[places])
        self.worst[places[better]], self.largest[places[better]] = x_adv[better], margins[better]
        self.stands[places] = stands
        return stands
