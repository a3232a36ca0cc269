"""The schedule of A3 and the directions it starts along, as its authors released them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAST_IMAGES = 100
"""As many as stand are attacked in any round, or all if fewer do."""

LEAST_STEPS = 15
LOOSE = 10
"""From this round on the entries of a direction are drawn more widely; see `directions`."""


@dataclass(frozen=True)
class Round:
    """A round of A3.

    Attributes:
        share: of the images that still stand, those closest to failing, which are attacked.
        num_steps: on the margin, at most.
        directed: steps along a direction of the logits before them.
        restarts: runs from other random starts.
    """

    share: float
    num_steps: int
    directed: int
    restarts: int = 1


FIRST = (Round(1.0, 8, 0), Round(1.0, 15, 7), Round(1.0, 15, 7))
_NARROWING = (
    *(Round(0.7, 32, 7), Round(0.6, 37, 7), Round(0.5, 37, 7), Round(0.4, 42, 7)),
    *(Round(0.3, 47, 7), Round(0.2, 52, 7), Round(0.1, 57, 7), Round(0.1, 57, 7, 4)),
    *(Round(0.065, 62, 7, 4), Round(0.03, 67, 7, 50)),
)
_DIRECTED = (
    *(Round(1.0, 15, 10, 10), Round(1.0, 20, 15), Round(1.0, 25, 15), Round(1.0, 20, 10)),
    *(Round(1.0, 25, 10), Round(1.0, 28, 10), Round(1.0, 30, 10), Round(0.8, 35, 10, 5)),
    *(Round(0.5, 45, 10, 5), Round(0.5, 55, 10, 20)),
)
NUM_ROUNDS = len(FIRST) + len(_NARROWING)


def round_of(number: int, num_classes: int, *, masked: bool, few_stand: bool) -> Round:
    """Return a round of the published schedule.

    From the fourth on there are two: the images closest to failing, for longer and longer; or, on a
    classifier that falls to directions rather than to its margin, most images and more directed
    steps. Above 100 classes it is that of ImageNet: 10 more steps, one more restart, 32 at the end.

    Args:
        number: from 0 to 12.
        num_classes: of the classifier.
        masked: whether directed steps have broken many images.
        few_stand: whether fewer than a tenth of all images stand: then all of these are attacked,
            ten times more.
    """
    planned = (*FIRST, *(_DIRECTED if masked else _NARROWING))[number]
    if num_classes > 100:
        restarts = min(planned.restarts, 31) + 1
        planned = replace(planned, num_steps=planned.num_steps + 10, restarts=restarts)
    if few_stand:
        planned = replace(planned, share=1.0, restarts=planned.restarts + 10)
    return planned


@dataclass
class Learned:
    """What the directions that broke images had in common: sums of their entries.

    Attributes:
        label: at the images' labels.
        wrong: at the classes that were predicted instead.
    """

    label: float = 0.0
    wrong: float = 0.0

    def add(
        self,
        directions: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
        predicted: Int[Tensor, " n"],
    ) -> None:
        """Take in the directions of images that were broken."""
        self.label += float(directions.gather(1, labels.view(-1, 1)).sum())
        self.wrong += float(directions.gather(1, predicted.view(-1, 1)).sum())


def rivals(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Int[Tensor, "n others"]:
    """Return the classes other than the label, from the largest logit down."""
    others = logits.scatter(1, labels.view(-1, 1), -float("inf"))
    order: Tensor = others.argsort(dim=1, descending=True, stable=True)
    return order[order != labels.view(-1, 1)].view(len(labels), -1)


def directions(
    generator: np.random.Generator,
    labels: Int[Tensor, " n"],
    others: Int[Tensor, "n others"],
    *,
    number: int,
    turn: int,
    masked: bool,
    learned: Learned,
) -> Float[Tensor, "n k"]:
    """Return a direction w of the logits z for every image; ``w . z`` is ascended.

    ``w ~ U(-1, 1)^k``. From the third round on two entries are set, of size k/10 times a number
    that is drawn for all images: that of the label, and that of a rival, which is the next likely
    one at every turn. With up to ten classes their signs are those that broke images before.

    Args:
        generator: of the draws.
        labels: of the images.
        others: their `rivals`.
        number: of the round.
        turn: counts the runs.
        masked: see `round_of`.
        learned: from the second round.
    """
    count, num_classes = len(labels), others.shape[1] + 1
    drawn = generator.uniform(-1, 1, size=(count, num_classes))
    w = torch.from_numpy(drawn).to(labels.device, torch.float32)
    if number < len(FIRST) - 1:
        return w
    low, high, rival = _entries(num_classes, number=number, masked=masked, learned=learned)
    among = min(_most_rivals(num_classes, loose=number >= LOOSE and not masked), num_classes - 1)
    scale = num_classes / 10
    w.scatter_(1, labels.view(-1, 1), scale * generator.uniform(low, high))
    return w.scatter_(1, others[:, turn % among].view(-1, 1), scale * rival)


def _entries(
    num_classes: int, *, number: int, masked: bool, learned: Learned
) -> tuple[float, float, float]:
    """Return the range of the label's entry and the rival's entry, over k/10."""
    if masked:
        return (-0.1, 0.5, 0.8) if number <= LOOSE else (0.0, 0.0, 0.8)
    if number >= LOOSE:
        return -0.8, 0.1, 0.8
    if num_classes > 10:
        return -0.5, 0.1, 0.8
    rival = 0.8 if learned.wrong >= 0 else -0.8
    return (-0.1, 0.5, rival) if learned.label > 0 else (-0.5, 0.1, rival)


def _most_rivals(num_classes: int, *, loose: bool) -> int:
    """Return how many rivals are gone through."""
    if num_classes <= 10:
        return 4 if loose else 9
    return 14 if num_classes <= 100 else 20


def step_size(step: int, num_steps: int, eps: float) -> float:
    """Return the size of a step on the margin: from eps down to a share of it, by a cosine."""
    least = eps * (0.1 if num_steps <= 10 else 0.001)
    return least + (eps - least) * (1 + float(np.cos(np.pi * step / (num_steps + 1)))) / 2
