"""Ordinary supervised training: how a teacher is made when nobody brings one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from dfshield.attacks import frozen
from dfshield.checks import at_least, positive
from dfshield.classifiers import float32_logits, load_state, require_module
from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators


@runtime_checkable
class LabelledImages(Protocol):
    """A labelled data set that gives any of its rows as tensors; `ImageSet` is one."""

    def __len__(self) -> int: ...

    def tensors(
        self, index: slice | np.ndarray | None = None
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Return images in [0, 1] and labels."""
        ...


@dataclass(frozen=True)
class SupervisedEpoch:
    """Metrics of one epoch on the validation images: accuracy in [0, 1] and one-vs-rest AUC."""

    epoch: int
    loss: float
    accuracy: float
    auc: float

    @property
    def rank(self) -> tuple[float, float]:
        """What epochs are compared by."""
        return self.auc, self.accuracy


def train_supervised(
    classifier: nn.Module,
    train: LabelledImages,
    validation: LabelledImages,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    optimizer: Literal["adam", "sgd"] = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    milestones: tuple[float, ...] = (0.5, 0.75),
    select: Literal["auc", "last"] = "auc",
    seed: int = 0,
    on_epoch: Callable[[SupervisedEpoch], None] = lambda _: None,
) -> SupervisedEpoch:
    """Train a classifier on real images with cross-entropy; return the epoch that is kept.

    The defaults are MedMNIST's recipe: Adam, learning rate 1e-3 falling tenfold at half and three
    quarters of the epochs, batches of 128, the epoch with the best validation AUC.

    Args:
        classifier: trained in place; ends in eval mode with the weights of the kept epoch.
        train: images to learn from.
        validation: images to choose the epoch by.
        epochs: passes over ``train``.
        batch_size: images per step.
        optimizer: ``adam``, or ``sgd`` with Nesterov momentum 0.9.
        learning_rate: at the start.
        weight_decay: L2 penalty.
        milestones: shares of the epochs after which the learning rate falls tenfold.
        select: ``auc`` keeps the epoch with the best validation AUC, ``last`` the last one.
        seed: the run's seed.
        on_epoch: called with the metrics of each epoch.

    Raises:
        InputError: for a classifier, images or numbers that cannot be, naming the argument; for
            answers that are no logits.
        DfshieldError: if the loss or the outputs stop being finite.
    """
    require_module(classifier, "classifier")
    _require_images(train=train, validation=validation)
    at_least(1, epochs, "epochs")
    at_least(1, batch_size, "batch_size")
    stepper = _optimizer(classifier, optimizer, learning_rate, weight_decay)
    schedule = MultiStepLR(stepper, [round(share * epochs) for share in milestones])
    kept: SupervisedEpoch | None = None
    state: dict[str, Tensor] = {}
    for epoch in range(epochs):
        loss = _train_epoch(classifier, train, stepper, epoch, batch_size, seed)
        schedule.step()
        measured = validate(classifier, validation, batch_size=batch_size)
        metrics = SupervisedEpoch(epoch, loss, *measured)
        if kept is None or select == "last" or metrics.rank > kept.rank:
            kept = metrics
            state = {k: v.detach().clone() for k, v in classifier.state_dict().items()}
        on_epoch(metrics)
    assert kept is not None  # there was an epoch
    load_state(classifier, state)
    classifier.eval()
    return kept


def _require_images(**given: LabelledImages) -> None:
    for key, images in given.items():
        if not isinstance(images, LabelledImages) or len(images) == 0:
            raise InputError(
                f"{key}: must be an image set, such as dfshield.datasets.ImageSet, with images"
            )


def _optimizer(
    model: nn.Module, name: Literal["adam", "sgd"], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    positive(learning_rate, "learning_rate")
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=0.9,
        nesterov=True,
    )


def _train_epoch(
    model: nn.Module,
    train: LabelledImages,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    batch_size: int,
    seed: int,
) -> float:
    device = next(model.parameters()).device
    order = generator(seed, RngStream.TEACHER, epoch).permutation(len(train))
    model.train()
    total = torch.zeros((), device=device)
    with torch_generators(derived_seed(seed, RngStream.TEACHER, epoch), device):
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            images, labels = train.tensors(rows)
            logits = float32_logits(model, images.to(device))
            loss = F.cross_entropy(logits, labels.to(device))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach() * len(rows)
        mean = total.item() / len(order)
    if not np.isfinite(mean):
        raise _diverged("loss is not finite")
    return mean


def _diverged(what: str) -> DfshieldError:
    return DfshieldError(
        f"the teacher's training diverged ({what}); lower teacher.train.learning_rate"
    )


def validate(
    model: nn.Module, images: LabelledImages, *, batch_size: int = 128
) -> tuple[float, float]:
    """Return accuracy in [0, 1] and macro one-vs-rest AUC of a model on labelled images.

    The AUC averages over the classes that occur among the labels but not everywhere.

    Raises:
        DfshieldError: if an output is not finite.
    """
    device = next(model.parameters()).device
    probabilities, expected = [], []
    with frozen(model), torch.no_grad():
        for first in range(0, len(images), batch_size):
            batch, labels = images.tensors(slice(first, first + batch_size))
            logits = float32_logits(model, batch.to(device))
            probabilities.append(logits.softmax(dim=1).double().cpu())
            expected.append(labels)
    scores, truth = torch.cat(probabilities).numpy(), torch.cat(expected).numpy()
    if not np.isfinite(scores).all():
        raise _diverged("outputs on the validation images are not finite")
    accuracy = float((scores.argmax(axis=1) == truth).mean())
    if len(np.unique(truth)) < 2:
        raise InputError("the validation images are all of one class, so they can choose no epoch")
    from sklearn.metrics import roc_auc_score  # here: every process would wait for it

    usable = [k for k in range(scores.shape[1]) if 0 < (truth == k).sum() < len(truth)]
    auc = float(np.mean([roc_auc_score(truth == k, scores[:, k]) for k in usable]))
    return accuracy, auc
