"""The losses of IntraQ, and the optimisation of one batch with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int, Int64
from torch import Tensor, nn

from dfshield.attacks.penultimate import find_head
from dfshield.classifiers import Classifier, answer_of
from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, generator
from dfshield.synthesis.crops import cropped, draw_crops
from dfshield.synthesis.draws import LabelRule, draw_labels
from dfshield.synthesis.losses import SquaredStatistics

DECAY = 0.1
"""What the learning rate is multiplied with where the loss has not fallen for a while."""


def soft_inception_loss(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], targets: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return ``(1/n) sum_i (p_y(x_i) - t_i)^2``: probabilities of the labels and soft targets."""
    probabilities = F.softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    return F.mse_loss(probabilities, targets)


def marginal_distance(
    features: Float[Tensor, "n d"],
    centres: Float[Tensor, "n d"],
    *,
    lower: float,
    upper: float,
) -> Float[Tensor, ""]:
    """Return ``(1/n) sum_i max(lower - d_i, 0) + max(d_i - upper, 0)``.

    ``d_i = 1 - cos(f_i, c_i)`` is the cosine distance of an image's features from the centre of its
    class.
    """
    distances = 1.0 - F.cosine_similarity(features, centres, dim=1)
    return (F.relu(lower - distances) + F.relu(distances - upper)).mean()


def class_means(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], num_classes: int
) -> Float[Tensor, "k d"]:
    """Return the mean features of every class; zeros for a class without images."""
    members = F.one_hot(labels, num_classes).to(features)
    return members.T @ features / members.sum(dim=0).clamp(min=1)[:, None]


@dataclass(frozen=True)
class DescentOptions:
    """The options of a descent, as `IntraQ` describes them."""

    iterations: int
    learning_rate: float
    min_learning_rate: float
    patience: int
    labels: LabelRule
    soft_target: float
    soft_share: float
    lower: float
    upper: float
    centre_momentum: float
    crop_share: float
    crop_scale: float
    layer: str | None


@dataclass(frozen=True, eq=False)
class DescentDraws:
    """What of a batch is drawn before the first iteration.

    Attributes:
        labels: artificial labels.
        targets: soft targets.
        noise: where the optimisation starts.
    """

    labels: Int64[np.ndarray, " n"]
    targets: Float64[np.ndarray, " n"]
    noise: Float32[np.ndarray, "n c h w"]


class Descent:
    """The optimisation of one batch.

    Draws come from the generators of ``(seed, stream, batch)`` and, the crops of an iteration, of
    ``(seed, stream, batch, iteration)``.

    Args:
        teacher: in eval mode, weights frozen.
        options: see `IntraQ`.
        seed: of the run.
        stream: ``SYNTHESIS`` or ``HOLDOUT``, whose labels are balanced.
        batch: its number.
        size: images in it.

    Attributes:
        draws: see `DescentDraws`.
        losses: class, feature and margin term and their sum in the last iteration, on the CPU.
    """

    def __init__(
        self,
        teacher: Classifier,
        options: DescentOptions,
        *,
        seed: int,
        stream: RngStream,
        batch: int,
        size: int,
    ) -> None:
        self._teacher, self._options = teacher, options
        self._place = (seed, stream, batch)
        draw, device = generator(*self._place), teacher.mean.device
        rule = "balanced" if stream is RngStream.HOLDOUT else options.labels
        classes, soft = teacher.num_classes, options.soft_target
        labels = draw_labels(rule, draw, batch=batch, size=size, num_classes=classes)
        softened = draw.random(size) < options.soft_share
        targets = np.where(softened, draw.uniform(soft, 1.0, size), 1.0)
        noise = draw.standard_normal((size, *teacher.input_shape), dtype=np.float32)
        self.draws = DescentDraws(labels, targets, noise)
        self.losses = torch.zeros(4)
        self._labels = torch.from_numpy(labels).to(device)
        self._targets = torch.from_numpy(targets).float().to(device)
        self._pixels = torch.tensor(noise).to(device).requires_grad_()
        self._adam = torch.optim.Adam([self._pixels], lr=options.learning_rate)
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._adam, factor=DECAY, patience=options.patience, min_lr=options.min_learning_rate
        )
        self._statistics = SquaredStatistics(teacher.network)
        first = torch.zeros(1, *teacher.input_shape, device=device)
        self._head = find_head(teacher, first, options.layer)
        self._centres: Tensor | None = None

    def step(self, iteration: int) -> None:
        """Do an iteration.

        Args:
            iteration: its number, from 0.

        Raises:
            DfshieldError: if a loss is not finite, naming batch and iteration.
        """
        terms = self._terms(iteration)
        total = terms.sum()
        (self._pixels.grad,) = torch.autograd.grad(total, [self._pixels])
        self._adam.step()
        self.losses = torch.cat([terms, total[None]]).detach().cpu()
        loss = self.losses[3].item()
        if not bool(self.losses.isfinite().all()):
            raise DfshieldError(
                f"batch {self._place[2]}, iteration {iteration}: the synthesis diverged (its loss "
                f"is {loss}); lower learning_rate (synthesis.method)"
            )
        self._plateau.step(loss)

    def _terms(self, iteration: int) -> Float[Tensor, "3"]:
        options, network = self._options, self._teacher.network
        crops = draw_crops(
            generator(*self._place, iteration),
            len(self._pixels),
            share=options.crop_share,
            scale=options.crop_scale,
        )
        with self._statistics.recording(), _input_of(self._head) as seen:
            logits = answer_of(network, cropped(self._pixels, crops)).float()
        if not seen:
            raise InputError("layer: the teacher's forward pass does not use it; name another")
        features = seen[-1].reshape(len(logits), -1).float()
        return torch.stack(
            [
                soft_inception_loss(logits, self._labels, self._targets),
                self._statistics.loss(),
                marginal_distance(
                    features,
                    self._moved_centres(features.detach())[self._labels],
                    lower=options.lower,
                    upper=options.upper,
                ),
            ]
        )

    def _moved_centres(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "k d"]:
        """Return the centres of the classes, this iteration included."""
        means = class_means(features, self._labels, self._teacher.num_classes)
        if self._centres is not None:
            means = torch.lerp(means, self._centres, self._options.centre_momentum)
        self._centres = means
        return means

    def images(self) -> Float[Tensor, "n c h w"]:
        """Return the images as they are now, in [0, 1], on the CPU."""
        pixels = self._teacher.denormalise(self._pixels.detach())
        return pixels.clamp(0.0, 1.0).cpu().contiguous()

    def state(self) -> dict[str, Any]:
        """Return all that the remaining iterations depend on; tensors may be shared."""
        return {
            "pixels": self._pixels.detach(),
            "adam": self._adam.state_dict(),
            "plateau": self._plateau.state_dict(),
            "centres": self._centres,
            "losses": self.losses,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        state, device = deepcopy(state), self._pixels.device
        self._pixels.data.copy_(state["pixels"])
        self._adam.load_state_dict(state["adam"])
        self._plateau.load_state_dict(state["plateau"])
        self._centres, self.losses = state["centres"].to(device), state["losses"]


@contextmanager
def _input_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Give the list of the inputs of a layer in the block."""
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    hook = layer.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()
