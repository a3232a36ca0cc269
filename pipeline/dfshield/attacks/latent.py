"""The latent-feature attack (Sabour et al., 2016): look, inside, like an image of another class."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.attacks.ascent import child_generator
from dfshield.attacks.ball import Norm
from dfshield.attacks.base import Attack
from dfshield.attacks.models import logits_of
from dfshield.attacks.penultimate import distance_and_gradient, feature_map, find_head
from dfshield.checks import at_least
from dfshield.errors import DfshieldWarning, InputError


class Latent(Attack):
    """Features moved towards those of an image of another class (Sabour et al., 2016).

    ``min ||phi(x') - phi(x_g)||^2`` subject to ``||x' - x||_inf <= eps`` and x' in [0, 1].
    phi is what goes into the model's last layer, x_g a guide of another class: an image of the same
    batch with another label, drawn by the seed. Solved by L-BFGS-B with the gradients of automatic
    differentiation, image by image. It is a targeted attack on features, weaker than PGD on the
    loss as a rule. An image whose batch holds no other class comes back unchanged, which a warning
    says.

    Args:
        eps: radius of the ball; the paper takes 10/255.
        norm: ``linf``, the box that L-BFGS-B bounds.
        num_steps: iterations of L-BFGS-B at most (the paper gives none).
        layer: dotted name of the layer whose input phi is; None finds the last linear or
            convolutional layer of the forward pass that gives one value per class.

    Raises:
        InputError: for a hyper-parameter that makes no sense, naming it; for a model without such a
            layer when it runs.
    """

    name = "latent"
    norms = ("linf",)
    looks_inside = True
    independent = False

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        num_steps: int = 100,
        layer: str | None = None,
    ) -> None:
        super().__init__(eps=eps, norm=norm)
        self.num_steps = at_least(1, num_steps, "num_steps")
        if layer is not None and not isinstance(layer, str):
            raise InputError(f"layer: {layer!r} must be the dotted name of a layer")
        self.layer = layer

    def perturb(
        self, model: nn.Module, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], *, seed: int
    ) -> Float[Tensor, "n c h w"]:
        """Move each image that still stands towards its guide."""
        features = feature_map(model, find_head(model, x[:1], self.layer))
        x_adv, without_guide = x.clone(), 0
        for place in self.still_correct(logits_of(model, x), y).tolist():
            others = (y != y[place]).nonzero().flatten()
            if len(others) == 0:
                without_guide += 1
                continue
            draw = child_generator(np.random.SeedSequence(seed), place)
            guide = others[int(draw.integers(len(others)))]
            with torch.no_grad():
                goal = features(x[guide : guide + 1])
            x_adv[place] = self._approach(features, x[place : place + 1], goal)[0]
        if without_guide:
            warnings.warn(
                f"no image of another class to guide the latent attack on {without_guide} images: "
                "they came back unchanged",
                DfshieldWarning,
                stacklevel=4,
            )
        return x_adv

    def _approach(
        self,
        features: Callable[[Tensor], Tensor],
        image: Float[Tensor, "1 c h w"],
        goal: Float[Tensor, "1 d"],
    ) -> Float[Tensor, "1 c h w"]:
        from scipy.optimize import Bounds, minimize  # here: every process would wait for it

        start = image.double().cpu().numpy().ravel()

        def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.from_numpy(values).to(image).view_as(image)
            distance, gradient = distance_and_gradient(features, point, goal)
            return distance, gradient.double().cpu().numpy().ravel()

        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(np.maximum(start - self.eps, 0), np.minimum(start + self.eps, 1)),
            options={"maxiter": self.num_steps},
        )
        return torch.from_numpy(found.x).to(image).view_as(image)

    @property
    def label(self) -> str:
        """``Latent``."""
        return "Latent"

    def describe(self) -> dict[str, str | int | float | bool]:
        """Return the name and every hyper-parameter, ready for JSON."""
        layer = {"layer": self.layer} if self.layer is not None else {}
        return {**super().describe(), "num_steps": self.num_steps, **layer}
