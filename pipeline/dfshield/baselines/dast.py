"""DaST: a generator of a branch a class, and a student that imitates (Zhou et al. 2020)."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dfshield.baselines.base import Access, EpochBaseline
from dfshield.baselines.networks import BranchedNetwork, drawn_from
from dfshield.baselines.student import Init
from dfshield.baselines.training import BaselineTraining
from dfshield.checks import at_least, non_negative
from dfshield.classifiers import Classifier
from dfshield.errors import InputError
from dfshield.training import InnerMaximization

BETAS = (0.5, 0.999)
TRUNK_RATE = 2.0
"""How much faster the trunk learns than the branches."""


def imitation_loss(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], *, beta: float
) -> Float[Tensor, ""]:
    """Return ``CE(S, argmax T) + beta MSE(softmax S, softmax T)`` of logits."""
    of_labels = F.cross_entropy(student, teacher.argmax(dim=1))
    if beta == 0:
        return of_labels
    return of_labels + beta * F.mse_loss(F.softmax(student, dim=1), F.softmax(teacher, dim=1))


class DaST(EpochBaseline):
    """A generator of one branch a class against a student that imitates the teacher's answers.

    A step: images x of a batch, an equal chunk of each branch, shuffled; the student minimises
    ``CE(S(x'), y_T) + beta MSE(softmax S(x'), softmax T(x))``, y_T being the teacher's class of x
    and x' adversarial; then the generator minimises ``exp(-[the same of S(x)]) + alpha CE(S(x),
    branch)``. Alpha becomes the last term once that is no more than alpha_threshold.

    Published: the losses (with x in place of x'), the generator, Adam (0.5, 0.999). The published
    script never steps the generator and has the teacher's class for the branch's; here it is as
    the paper says. Its authors call the training on CIFAR-10 unstable.

    Args:
        epochs: of the training.
        iterations_per_epoch: steps of an epoch.
        batch_size: images of a step, no fewer than classes.
        student_learning_rate: Adam's.
        generator_learning_rate: Adam's, of the branches; the trunk has twice that.
        width: channels of a branch, and components of a code, which are uniform in [0, 1].
        beta: weight of the probabilities: 0 asks for the teacher's class alone (DaST-L), 0.1 for
            its probabilities too (DaST-P).
        alpha: weight of the term of the branch, at the beginning.
        alpha_threshold: see above; the published script for MNIST has 0.1.
        init: where the student begins: ``teacher`` or ``scratch``.
    """

    name: ClassVar[str] = "dast"

    def __init__(
        self,
        *,
        epochs: int = 2000,
        iterations_per_epoch: int = 500,
        batch_size: int = 500,
        student_learning_rate: float | int = 1e-4,
        generator_learning_rate: float | int = 1e-4,
        width: int = 128,
        beta: float | int = 0.0,
        alpha: float | int = 0.2,
        alpha_threshold: float | int = 0.2,
        init: Init = "teacher",
    ) -> None:
        super().__init__(
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            init=init,
            batch_size=batch_size,
            student_learning_rate=student_learning_rate,
            generator_learning_rate=generator_learning_rate,
        )
        self.width = at_least(1, width, "width")
        self.beta = non_negative(beta, "beta")
        self.alpha = non_negative(alpha, "alpha")
        self.alpha_threshold = non_negative(alpha_threshold, "alpha_threshold")

    @property
    def access(self) -> Access:
        """Labels, or logits with beta above 0."""
        return "logits" if self.beta else "labels"

    def begin(self, teacher: Classifier, *, inner: InnerMaximization, seed: int) -> "DaSTTraining":
        """Return the training; see `Baseline`."""
        return DaSTTraining(teacher, self, inner=inner, seed=seed)


class DaSTTraining(BaselineTraining):
    """The training of DaST; see `DaST`."""

    network: BranchedNetwork

    def __init__(
        self, teacher: Classifier, options: DaST, *, inner: InnerMaximization, seed: int
    ) -> None:
        if options.batch_size < teacher.num_classes:
            raise InputError(
                f"batch_size: {options.batch_size} images cannot be shared out to "
                f"{teacher.num_classes} branches, one a class"
            )
        with drawn_from(seed):
            network = BranchedNetwork(
                teacher.input_shape, num_classes=teacher.num_classes, width=options.width
            )
        super().__init__(
            teacher,
            network,
            options,
            inner=inner,
            seed=seed,
        )
        self.changed = network.changed
        self.alpha, self._options = options.alpha, options
        rate = options.generator_learning_rate
        self._optimise(
            student=torch.optim.Adam(
                self.student.parameters(), lr=options.student_learning_rate, betas=BETAS
            ),
            generator=torch.optim.Adam(
                [
                    {"params": list(network.branches.parameters()), "lr": rate},
                    {"params": list(network.trunk.parameters()), "lr": TRUNK_RATE * rate},
                ],
                betas=BETAS,
            ),
        )

    def _labelled(
        self, draw: np.random.Generator, size: int
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return images and their branches, of which each makes an equal chunk, shuffled."""
        codes = draw.random((size, self._options.width), dtype=np.float32)
        labels = np.arange(size) * self.teacher.num_classes // size
        order = draw.permutation(size)
        shuffled = torch.from_numpy(labels[order]).to(self.device)
        return self.network(torch.from_numpy(codes[order]).to(self.device), shuffled), shuffled

    def _images(self, draw: np.random.Generator, size: int) -> Float[Tensor, "n c h w"]:
        return self._labelled(draw, size)[0]

    def _step(self, draw: np.random.Generator) -> dict[str, float]:
        options = self._options
        images, labels = self._labelled(draw, self.batch_size)
        self._looked_at(images)
        teacher = self._ask(images.detach())
        adversarial = self._attacked(images.detach(), draw)
        loss = imitation_loss(self._passes.train_pass(adversarial), teacher, beta=options.beta)
        self._descend("student", loss)
        clean = self._passes.train_pass(images)
        imitation = imitation_loss(clean, teacher, beta=options.beta)
        of_branches = F.cross_entropy(clean, labels)
        of_generator = torch.exp(-imitation) + self.alpha * of_branches
        self._descend("generator", of_generator)
        found = of_branches.item()
        if found <= options.alpha_threshold:
            self.alpha = found
        return {
            "loss": loss.item(),
            "loss_generator": of_generator.item(),
            "loss_imitation": imitation.item(),
            "loss_branch": found,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what the remaining steps depend on; see `BaselineTraining`."""
        return {**super().state_dict(), "alpha": self.alpha}

    def load_state_dict(self, state: Any) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self.alpha = state["alpha"]
