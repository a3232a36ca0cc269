"""The detector of DAD: a small network that tells attacked images by a classifier's logits."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dfshield.errors import InputError
from dfshield.seeds import RngStream, derived_seed, generator, torch_generators

HIDDEN, DROPOUT = 128, 0.25
CLEAN, ATTACKED = 0, 1
TINY = 1e-5


class Detector(nn.Module):
    """Two hidden layers on the logits of a classifier (Nayak et al. 2022): clean or attacked.

    k - 128 - ReLU - dropout - 128 - ReLU - BatchNorm - dropout - 2, where the last layer is
    ``(g v / ||v||) f + b``, row by row.

    Attributes:
        adapted: a buffer, true of a detector that has seen logits of the images it is used on.

    Args:
        num_classes: k, of the classifier.
    """

    adapted: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(num_classes, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)
        last = nn.Linear(HIDDEN, 2)
        self.direction = nn.Parameter(last.weight.detach().clone())
        self.length = nn.Parameter(last.weight.detach().norm(dim=1))
        self.bias = nn.Parameter(last.bias.detach().clone())
        self.register_buffer("adapted", torch.tensor(False))

    @property
    def num_classes(self) -> int:
        """Of the classifier whose logits it takes."""
        return self.first.in_features

    def features(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """Return what goes into the last layer."""
        hidden = self.dropout(F.relu(self.first(logits)))
        found: Tensor = self.dropout(self.norm(F.relu(self.second(hidden))))
        return found

    def answer(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        """Return the last layer's logits: of clean, and of attacked."""
        weight = self.length.view(-1, 1) * F.normalize(self.direction, dim=1)
        return F.linear(features, weight, self.bias)

    def forward(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, "n 2"]:
        """Return logits: of clean, and of attacked."""
        return self.answer(self.features(logits))


def train_detector(
    clean: Float[Tensor, "n k"],
    attacked: Float[Tensor, "m k"],
    *,
    seed: int = 0,
    epochs: int = 40,
    batch_size: int = 100,
    learning_rate: float = 5e-4,
) -> Detector:
    """Return a detector trained on logits of images that are not those it is meant for.

    Cross-entropy, RMSprop; the defaults are the published ones.

    Args:
        clean: logits of a classifier of any other data set, with as many classes.
        attacked: its logits of the same images under PGD.
        seed: of weights, dropout and order.
        epochs: over both.
        batch_size: logits in a step.
        learning_rate: RMSprop's.

    Raises:
        InputError: if there are too few logits, or they differ in their number of classes.
    """
    if clean.shape[1] != attacked.shape[1] or min(len(clean), len(attacked)) < 2:
        raise InputError(
            f"logits: clean ones are {tuple(clean.shape)}, attacked ones {tuple(attacked.shape)}: "
            "both need two rows and the same number of classes"
        )
    logits = torch.cat([clean, attacked]).detach().float()
    device = logits.device
    labels = torch.arange(2, device=device).repeat_interleave(
        torch.tensor([len(clean), len(attacked)], device=device)
    )
    with torch.enable_grad(), torch_generators(derived_seed(seed, RngStream.DEFENCE), device):
        detector = Detector(logits.shape[1]).to(device).train()
        optimizer = torch.optim.RMSprop(detector.parameters(), lr=learning_rate)
        for epoch in range(epochs):
            for batch in _batches(
                len(logits), batch_size, generator(seed, RngStream.DEFENCE, epoch)
            ):
                loss = F.cross_entropy(detector(logits[batch]), labels[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
    return detector.eval().requires_grad_(False)


def adapt_detector(
    detector: Detector,
    logits: Float[Tensor, "n k"],
    *,
    seed: int = 0,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    entropy: float = 0.8,
    pseudo: float = 0.3,
) -> Detector:
    """Return a copy of a detector adapted to unlabelled logits, its last layer as it was.

    ``entropy (mean_i H(p_i) - H(mean_i p_i)) + pseudo CE(p, l)`` by SGD, where the pseudo-labels l
    are those of `pseudo_labels`, anew every epoch. As published the logits are those of the *test*
    images, clean and attacked, that the defence is then measured on: a leak, which the copy's
    ``adapted`` tells and every result says. The published code keeps the epoch that is best by the
    true labels, and draws every batch anew; here it is the last epoch, and an epoch goes through
    all.

    Args:
        detector: what to start from; it is not changed.
        logits: of the classifier that it is meant for.
        seed: of dropout and order.
        epochs: over the logits.
        batch_size: logits in a step.
        learning_rate: SGD's.
        entropy: weight of the information that answers carry.
        pseudo: weight of the pseudo-labels.

    Raises:
        InputError: for logits of another number of classes.
    """
    require_classes(detector, logits.shape[1])
    logits, device = logits.detach().float(), logits.device
    adapted = copy.deepcopy(detector).to(device)
    trained = [adapted.first, adapted.second, adapted.norm]
    weights = [w.requires_grad_(True) for layer in trained for w in layer.parameters()]
    optimizer = torch.optim.SGD(weights, lr=learning_rate)
    with torch.enable_grad(), torch_generators(derived_seed(seed, RngStream.DEFENCE, 1), device):
        for epoch in range(epochs):
            labels = pseudo_labels(adapted.eval(), logits)
            adapted.train()
            for batch in _batches(
                len(logits), batch_size, generator(seed, RngStream.DEFENCE, 1, epoch)
            ):
                answers = adapted(logits[batch])
                p = answers.softmax(1)
                information = _entropy(p).mean() - _entropy(p.mean(0, keepdim=True)).mean()
                loss = entropy * information + pseudo * F.cross_entropy(answers, labels[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
    adapted.adapted.fill_(True)
    return adapted.eval().requires_grad_(False)


def pseudo_labels(detector: Detector, logits: Float[Tensor, "n k"]) -> Int[Tensor, " n"]:
    """Return the nearest of the two centres of the features, by cosine distance (SHOT).

    Centres are means weighted by the detector's answers, and then, once more, by the labels that
    these give. Features carry one more entry, 1.
    """
    with torch.no_grad():
        features = detector.features(logits)
        weights = detector.answer(features).softmax(1)
        features = F.normalize(F.pad(features, (0, 1), value=1.0), dim=1)
        for _ in range(2):
            centres = weights.T @ features / (weights.sum(0).view(-1, 1) + 1e-8)
            labels = (features @ F.normalize(centres, dim=1).T).argmax(1)
            weights = F.one_hot(labels, 2).to(features)
    return labels


def require_classes(detector: Detector, num_classes: int) -> None:
    """Check that a detector takes logits of so many classes.

    Raises:
        InputError: naming both counts otherwise.
    """
    if num_classes != detector.num_classes:
        raise InputError(
            f"detector: it takes logits of {detector.num_classes} classes, but the classifier has "
            f"{num_classes}: train one for as many"
        )


def _entropy(p: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    return -(p * (p + TINY).log()).sum(1)


def _batches(count: int, size: int, draw: np.random.Generator) -> list[Int[Tensor, " b"]]:
    """Return places in random order; a last one by itself, which BatchNorm refuses, is left out."""
    order = torch.from_numpy(draw.permutation(count))
    return [batch for batch in torch.split(order, size) if len(batch) > 1]
