"""The inner maximisation: the images that the student is trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import NORMS, Norm, frozen, in_float32, normalise_gradient, project
from dfshield.attacks.settings import at_least
from dfshield.classifiers import gradients, require_module
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.pixels import require_images
from dfshield.training.objectives import kl_divergence

START_SCALE = 0.001


class InnerMaximization:
    """PGD on the student that maximises ``KL(S(x)||S(x'))`` (the inner problem of Algorithm 1).

    Both norms start at ``x + 0.001 N(0, I)``, run in eval mode and compute S(x) once. l_inf steps
    by ``step`` (default ``eps / 4``) along the sign of the gradient and projects after each; l_2
    steps by ``step`` (default ``2 eps / steps``, as the authors' code) along the gradient
    normalised per image, clips to [0, 1], then scales the perturbation back into the ball. An image
    whose gradient is zero goes in a random direction (l_2).

    Args:
        eps: radius of the ball on the [0, 1] scale, as a number or ``"8/255"``.
        norm: ``linf`` or ``l2``.
        steps: number of gradient steps.
        step: step size; None gives the default of the norm.

    Raises:
        InputError: for an unknown norm or a size that makes no sense, naming it.
    """

    def __init__(
        self,
        *,
        eps: float | int | str,
        norm: Norm = "linf",
        steps: int = 10,
        step: float | int | str | None = None,
    ) -> None:
        if norm not in NORMS:
            raise InputError(f"norm: {norm!r} is unknown: known are {', '.join(NORMS)}")
        self.eps = parse_epsilon(eps)
        self.norm: Norm = norm
        self.steps = at_least(1, steps, "steps")
        default = self.eps / 4 if norm == "linf" else 2 * self.eps / steps
        self.step = default if step is None else parse_epsilon(step, key="step")

    def __call__(
        self,
        student: nn.Module,
        images: Float[Tensor, "n c h w"],
        *,
        generator: np.random.Generator,
    ) -> Float[Tensor, "n c h w"]:
        """Return the adversarial images, in [0, 1] and in the ball around ``images``.

        The student's weights get no gradient, its buffers do not move.

        Raises:
            InputError: if the student's logits have no gradient with respect to the images.
        """
        (adversarial,) = self.together(student, [images], generators=[generator])
        return adversarial

    @gradients()
    def together(
        self,
        student: nn.Module,
        batches: Sequence[Float[Tensor, "_ c h w"]],
        *,
        generators: Sequence[np.random.Generator],
    ) -> list[Float[Tensor, "_ c h w"]]:
        """Return the adversarial images of several batches, computed in the same passes.

        Each batch gets what it would have got alone, up to rounding, from a generator of its own.

        Raises:
            InputError: if the student's logits have no gradient with respect to the images.
        """
        require_module(student, "student")
        for batch in batches:
            require_images(batch)
        for generator in generators:
            if not isinstance(generator, np.random.Generator):
                raise InputError(
                    "generator: must be a numpy.random.Generator, such as "
                    f"numpy.random.default_rng(0), but is a {type(generator).__name__}"
                )
        student = in_float32(student)
        sizes = [len(batch) for batch in batches]
        images = torch.cat(list(batches))
        noise = torch.cat(
            [
                torch.from_numpy(generator.standard_normal(batch.shape, dtype=np.float32))
                for batch, generator in zip(batches, generators, strict=True)
            ]
        )
        adversarial = images + START_SCALE * noise.to(images.device)
        with frozen(student):
            with torch.no_grad():
                clean = student(images)
            for _ in range(self.steps):
                adversarial = adversarial.detach().requires_grad_()
                logits = student(adversarial)
                if not logits.requires_grad:
                    raise InputError(
                        "the student's logits have no gradient with respect to the images: its "
                        "forward pass must be differentiable"
                    )
                (gradient,) = torch.autograd.grad(kl_divergence(clean, logits), [adversarial])
                direction = torch.cat(
                    [
                        normalise_gradient(of_batch, self.norm, generator)
                        for of_batch, generator in zip(
                            torch.split(gradient, sizes), generators, strict=True
                        )
                    ]
                )
                adversarial = project(
                    adversarial.detach() + self.step * direction,
                    images,
                    eps=self.eps,
                    norm=self.norm,
                )
        return list(torch.split(adversarial, sizes))
