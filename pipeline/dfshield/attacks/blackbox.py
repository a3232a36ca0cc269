"""GenAttack and Boundary, which ask for logits and for decisions alone, through foolbox."""

import importlib
import warnings
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Outcome, QueryAttack
from dfshield.attacks.models import logits_of
from dfshield.checks import at_least, one_of, positive
from dfshield.errors import DfshieldWarning, InputError, one_line


class GenAttack(QueryAttack):
    """Genetic search in the l_inf ball (Alzantot et al., 2019), through foolbox.

    Each generation keeps its fittest member, picks parents by a softmax over fitness, crosses them
    pixel by pixel in proportion to their fitness, and mutates pixels with noise. The search aims at
    one other class, but any wrong prediction, of any member, ends it; an image that withstands it
    comes back as its last generation's fittest. Published settings for CIFAR-10 are the defaults,
    but for the number of generations (10,000 there) and the target, which the paper leaves open.

    Fitness is ``log p_t`` where the authors take ``log p_t - log sum_{j != t} p_j``, which ranks a
    population in the same way: foolbox 3.3.4 subtracts the target's logit where its exponential
    belongs, which with log-probabilities leaves this. It clips the noise, not the image, to the
    ball, as it should; older copies did not.

    Args:
        eps: radius of the ball.
        norm: ``linf``.
        num_steps: generations.
        population: members of a generation, each one query.
        mutation_probability: share of pixels that mutate, the least it falls to.
        mutation_range: largest mutation, in units of eps, the least it falls to.
        temperature: of the softmax that picks parents.
        target: ``runner-up``, the likeliest other class of the clean image, or ``random``.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; without foolbox when it
            runs.
    """

    name = "genattack"
    norms = ("linf",)
    independent = False

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 1000,
        population: int = 6,
        mutation_probability: float | int = 0.05,
        mutation_range: float | int = 0.25,
        temperature: float | int = 0.1,
        target: str = "runner-up",
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.population = at_least(2, population, "population")
        self.mutation_probability = positive(mutation_probability, "mutation_probability", most=1.0)
        self.mutation_range = positive(mutation_range, "mutation_range", most=1.0)
        self.temperature = positive(temperature, "temperature")
        self.target = one_of(("runner-up", "random"), target, "target")

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Search with the images that still stand."""
        calls = _foolbox_calls(self.label)
        logits = logits_of(model, x)
        places = self.still_correct(logits, y)
        x_adv, queries = x.clone(), torch.ones_like(y)
        if len(places):
            x_adv[places], used = calls.run_genattack(
                model,
                x[places],
                y[places],
                clean=logits[places],
                eps=self.eps,
                num_steps=self.num_steps,
                population=self.population,
                mutation_probability=self.mutation_probability,
                mutation_range=self.mutation_range,
                temperature=self.temperature,
                random_target=self.target == "random",
                seed=seed,
            )
            queries[places] += used
        return Outcome(x_adv, queries)

    @property
    def label(self) -> str:
        """``GenAttack``."""
        return "GenAttack"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {
            **super().describe(),
            "num_steps": self.num_steps,
            "population": self.population,
            "mutation_probability": self.mutation_probability,
            "mutation_range": self.mutation_range,
            "temperature": self.temperature,
            "target": self.target,
        }


class Boundary(QueryAttack):
    """A walk along the decision boundary towards the image (Brendel et al., 2018), with foolbox.

    It starts at the image blended with uniform noise, or, where no noise is classified as another
    class, at an image of the batch that is; it asks for decisions alone and shortens the l_2
    distance. It counts as a success once its wrong image lies within ``eps`` in ``norm``, which
    ends it; an image that withstands it comes back unchanged. (The paper reports accuracies without
    saying at which bound.)

    Args:
        eps: the bound.
        norm: of the bound, ``linf`` or ``l2``.
        num_steps: at most; foolbox's default, 25,000.
        spherical_step: first step along the sphere, in units of the distance.
        source_step: first step towards the image, in units of the distance.
        convergence: the walk ends where the source step falls below it.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; without foolbox when it
            runs.
    """

    name = "boundary"
    independent = False

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 25_000,
        spherical_step: float | int = 0.01,
        source_step: float | int = 0.01,
        convergence: float | int = 1e-7,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.num_steps = at_least(1, num_steps, "num_steps")
        self.spherical_step = positive(spherical_step, "spherical_step", most=1.0)
        self.source_step = positive(source_step, "source_step", most=1.0)
        self.convergence = positive(convergence, "convergence", most=1.0)

    def perturb_counting(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Outcome:
        """Walk with the images that still stand."""
        calls = _foolbox_calls(self.label)
        logits = logits_of(model, x)
        places = self.still_correct(logits, y)
        x_adv, queries = x.clone(), torch.ones_like(y)
        if len(places):
            x_adv[places], used, lost = calls.run_boundary(
                model,
                x[places],
                y[places],
                others=(x, logits.argmax(1)),
                eps=self.eps,
                norm=self.norm,
                num_steps=self.num_steps,
                spherical_step=self.spherical_step,
                source_step=self.source_step,
                convergence=self.convergence,
                seed=seed,
            )
            queries[places] += used
            if lost:
                warnings.warn(
                    f"Boundary had no wrong image to start from for {lost} images: neither noise "
                    "nor an image of the batch; they count as robust to it",
                    DfshieldWarning,
                    stacklevel=4,
                )
        return Outcome(x_adv, queries)

    @property
    def label(self) -> str:
        """``Boundary``."""
        return "Boundary"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        return {
            **super().describe(),
            "num_steps": self.num_steps,
            "spherical_step": self.spherical_step,
            "source_step": self.source_step,
            "convergence": self.convergence,
        }


def _foolbox_calls(label: str) -> ModuleType:
    """Import what calls foolbox, on first use: it is an extra.

    Raises:
        InputError: naming the extra where it is missing, or why it cannot be imported.
    """
    try:
        return importlib.import_module("dfshield.attacks.foolbox_calls")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "foolbox"
        reason = "which is missing" if missing else f"which fails to load ({one_line(error)})"
        text = f"{label} needs foolbox, {reason}: pip install 'dfshield[blackbox]'"
        raise InputError(text) from None
