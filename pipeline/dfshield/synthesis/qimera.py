"""Qimera: a generator of images between classes, by superposed embeddings (Choi et al. 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from dfshield.attacks.penultimate import find_head
from dfshield.checks import at_least, non_negative, one_of, positive, share
from dfshield.classifiers import Classifier, answer_of
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.seeds import RngStream
from dfshield.synthesis.base import FittedSynthesizer, SynthesizedBatch
from dfshield.synthesis.draws import LabelRule, draw_labels
from dfshield.synthesis.generated import GeneratorSampler, NetworkFit
from dfshield.synthesis.generator_network import GeneratorNetwork, new_network
from dfshield.synthesis.losses import SquaredStatistics

BETAS = (0.5, 0.999)
Embeddings = Literal["random", "teacher"]


@dataclass(frozen=True, eq=False)
class Superpositions:
    """The classes that images of a batch are made of.

    Attributes:
        classes: of every image, no two alike, the label first.
        weights: of these, falling, with sum 1; ``(1, 0, ...)`` is an image of one class.
        noise: for the embedding of each.
    """

    classes: Int64[np.ndarray, "n m"]
    weights: Float64[np.ndarray, "n m"]
    noise: Float32[np.ndarray, "n m d"]

    def targets(self, num_classes: int) -> Float[Tensor, "n k"]:
        """Return the weight of every class in every image."""
        targets = np.zeros((len(self.classes), num_classes), np.float32)
        np.put_along_axis(targets, self.classes, self.weights.astype(np.float32), axis=1)
        return torch.from_numpy(targets)


def draw_superpositions(
    draw: np.random.Generator,
    labels: Int64[np.ndarray, " n"],
    *,
    num_classes: int,
    num_superposed: int,
    share: float,
    latent: int,
) -> Superpositions:
    """Draw what the images of a batch are made of.

    Args:
        draw: what draws; always as many numbers.
        labels: the class that weighs most.
        num_classes: of the teacher.
        num_superposed: classes of an image that is superposed.
        share: the probability that one is.
        latent: dimension of the noise.
    """
    size = len(labels)
    order = draw.random((size, num_classes))
    order[np.arange(size), labels] = -1.0
    classes = np.argsort(order, axis=1)[:, :num_superposed]
    powers = np.exp(draw.standard_normal((size, num_superposed)))
    weights = -np.sort(-powers / powers.sum(axis=1, keepdims=True), axis=1)
    alone = draw.random(size) >= share
    weights[alone] = np.eye(1, num_superposed)
    noise = draw.standard_normal((size, num_superposed, latent), dtype=np.float32)
    return Superpositions(classes, weights, noise)


def superposed_codes(
    embedding: Float[Tensor, "k d"], mixed: Superpositions
) -> Float[Tensor, "n d"]:
    """Return ``sum_m w_m norm(e_m + noise_m)``, norm giving mean 0 and variance 1 over d."""
    device = embedding.device
    classes, noise = (torch.from_numpy(v).to(device) for v in (mixed.classes, mixed.noise))
    weights = torch.from_numpy(mixed.weights.astype(np.float32)).to(device)
    codes = F.layer_norm(F.embedding(classes, embedding) + noise, embedding.shape[1:])
    return (weights[:, :, None] * codes).sum(dim=1)


def soft_class_loss(
    logits: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of logits and soft targets, ``-(1/n) sum_i sum_k t_ik log p_ik``."""
    return F.cross_entropy(logits, targets)


class Qimera(FittedSynthesizer):
    """Samples of a generator between classes, fitted to the teacher with superposed embeddings.

    The generator is fitted to ``CE(T(x), t) + feature_weight * BNS``: the soft labels t of the
    superposition, and the distance of BatchNorm statistics (`SquaredStatistics`). The quantised
    student that the recipe trains on its images has no part in this loss, and is left out.

    Choices of ours: the norm of an embedding with its noise is over its components, not over the
    batch, so that an image depends on no other; an image, not a batch, is superposed with
    probability ``superposed_share``; its classes differ; its label is the one that weighs most; the
    generator is a `GeneratorNetwork`, which samples in eval mode; the learning rate is constant.

    Stored of every image: the weight of its label, 1 where it is of one class.

    Args:
        fit_iterations: steps of the fit.
        fit_batch_size: images of a step.
        learning_rate: Adam's, whose betas are 0.5 and 0.999.
        latent: dimension of the embeddings where they are random.
        width: channels of the generator.
        superposed_share: the probability that an image is superposed.
        num_superposed: classes of such an image.
        feature_weight: of the distance of BatchNorm statistics.
        embeddings: ``random`` are fitted with the generator; ``teacher`` are the rows of the
            teacher's last layer, and stay.
        layer: dotted name of that layer; None: the last linear or convolutional one with one
            channel a class.
        labels: how labels of sampled images are assigned; see `draw_labels`.

    Raises:
        InputError: for an option that cannot be.
    """

    name: ClassVar[str] = "qimera"
    columns: ClassVar[Mapping[str, str]] = {"label_weight": "float64"}

    def __init__(
        self,
        *,
        fit_iterations: int = 80_000,
        fit_batch_size: int = 200,
        learning_rate: float | int = 1e-3,
        latent: int = 64,
        width: int = 128,
        superposed_share: float | int = 0.4,
        num_superposed: int = 2,
        feature_weight: float | int = 0.1,
        embeddings: Embeddings = "random",
        layer: str | None = None,
        labels: LabelRule = "random",
    ) -> None:
        self.fit_iterations = at_least(1, fit_iterations, "fit_iterations")
        self.fit_batch_size = at_least(2, fit_batch_size, "fit_batch_size")
        self.learning_rate = positive(learning_rate, "learning_rate", most=1e6)
        self.latent = at_least(2, latent, "latent")
        self.width = at_least(2, width, "width")
        self.superposed_share = share(superposed_share, "superposed_share")
        self.num_superposed = at_least(2, num_superposed, "num_superposed")
        self.feature_weight = non_negative(feature_weight, "feature_weight")
        one_of(get_args(Embeddings), embeddings, "embeddings")
        self.embeddings: Embeddings = embeddings
        if not isinstance(layer, str | None):
            raise InputError(f"layer: {layer!r} must be the name of a layer")
        self.layer = layer
        one_of(get_args(LabelRule), labels, "labels")
        self.labels: LabelRule = labels

    def fit(
        self, teacher: Classifier, *, seed: int, acceleration: Acceleration | None = None
    ) -> "QimeraFit":
        """Return the fit of the generator; see `FittedSynthesizer`."""
        del acceleration  # there is no faster way
        return QimeraFit(teacher, self, seed=seed)

    def bind(
        self,
        teacher: Classifier,
        *,
        acceleration: Acceleration | None = None,
        full_pass: tuple[int, int] | None = None,
    ) -> "QimeraSampler":
        """Return what samples from the generator; see `FittedSynthesizer`."""
        del acceleration, full_pass
        return QimeraSampler(teacher, self, self.weights)

    def work(self, num_images: int) -> float:
        """Return the passes of the fit, back to the images being another, and of the images."""
        return 2.0 * self.fit_iterations * self.fit_batch_size + num_images

    def superpositions(
        self, draw: np.random.Generator, labels: Int64[np.ndarray, " n"], network: GeneratorNetwork
    ) -> Superpositions:
        """Draw what images with these labels are made of, for a generator with an embedding."""
        assert network.embedding is not None
        return draw_superpositions(
            draw,
            labels,
            num_classes=network.embedding.num_embeddings,
            num_superposed=self.num_superposed,
            share=self.superposed_share,
            latent=network.embedding.embedding_dim,
        )


class QimeraFit(NetworkFit):
    """The fit of Qimera's generator; see `Qimera`."""

    def __init__(self, teacher: Classifier, options: Qimera, *, seed: int) -> None:
        if options.num_superposed > teacher.num_classes:
            raise InputError(
                f"num_superposed: {options.num_superposed}, but the teacher has "
                f"{teacher.num_classes} classes"
            )
        given = _rows_of_head(teacher, options) if options.embeddings == "teacher" else None
        network = new_network(
            options.latent if given is None else given.shape[1],
            teacher.input_shape,
            seed=seed,
            num_classes=teacher.num_classes,
            width=options.width,
        )
        assert network.embedding is not None
        if given is not None:
            network.embedding.weight = nn.Parameter(given, requires_grad=False)
        super().__init__(
            teacher,
            network,
            seed=seed,
            steps=options.fit_iterations,
            learning_rate=options.learning_rate,
            betas=BETAS,
        )
        self._options = options
        self._statistics = SquaredStatistics(self.teacher.network)

    def _losses(
        self, draw: np.random.Generator
    ) -> tuple[Float[Tensor, "n c h w"], dict[str, Float[Tensor, ""]]]:
        options, teacher = self._options, self.teacher
        labels = draw.integers(teacher.num_classes, size=options.fit_batch_size)
        mixed = options.superpositions(draw, labels, self.network)
        assert self.network.embedding is not None
        images: Tensor = self.network(superposed_codes(self.network.embedding.weight, mixed))
        with self._statistics.recording():
            logits = answer_of(teacher.network, teacher.normalise(images)).float()
        of_classes = soft_class_loss(logits, mixed.targets(teacher.num_classes).to(self.device))
        of_features = self._statistics.loss()
        total = of_classes + options.feature_weight * of_features
        return images, {"loss": total, "loss_class": of_classes, "loss_feature": of_features}


class QimeraSampler(GeneratorSampler):
    """Samples of Qimera's generator; see `Qimera`."""

    def __init__(self, teacher: Classifier, options: Qimera, weights: Mapping[str, Tensor]) -> None:
        rows = weights.get("embedding.weight")
        network = GeneratorNetwork(
            options.latent if rows is None else rows.shape[1],
            teacher.input_shape,
            num_classes=teacher.num_classes,
            width=options.width,
        )
        super().__init__(teacher, network, weights)
        self._options = options

    def _sampled(
        self, draw: np.random.Generator, *, stream: RngStream, batch: int, size: int
    ) -> SynthesizedBatch:
        options, classes = self._options, self.teacher.num_classes
        rule = "balanced" if stream is RngStream.HOLDOUT else options.labels
        labels = draw_labels(rule, draw, batch=batch, size=size, num_classes=classes)
        mixed = options.superpositions(draw, labels, self.network)
        assert self.network.embedding is not None
        images: Tensor = self.network(superposed_codes(self.network.embedding.weight, mixed))
        record = {"label_weight": mixed.weights[:, 0]}
        return SynthesizedBatch(images.cpu(), torch.from_numpy(labels), record)


def _rows_of_head(teacher: Classifier, options: Qimera) -> Float[Tensor, "k d"]:
    """Return the weights of the teacher's last layer, a row a class, on the CPU."""
    image = torch.zeros(1, *teacher.input_shape, device=teacher.mean.device)
    weight = getattr(find_head(teacher, image, options.layer), "weight", None)
    if not isinstance(weight, Tensor) or len(weight) != teacher.num_classes or weight.ndim < 2:
        raise InputError("layer: embeddings of the teacher are rows of a layer, one a class")
    return weight.detach().cpu().float().flatten(1).clone()
