"""What is told of an update, and what is kept of its mini-batches until it ends."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from dfshield.training.batchnorm import BatchNormRecords


@dataclass(frozen=True)
class UpdateRecord:
    """What one update did. Losses are means over its mini-batches, weighted as in the objective."""

    epoch: int
    update: int
    loss: float
    loss_clean: float
    loss_robust: float
    loss_smooth: float
    agreement_rate: float
    ends_epoch: bool


class MiniBatch(NamedTuple):
    """What is left of a mini-batch once its gradient is accumulated."""

    batch: int
    losses: Float[Tensor, "4"]  # total, clean, robust, smooth
    records: BatchNormRecords
