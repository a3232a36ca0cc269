"""What is recorded of an update, and what is kept of its mini-batches until it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

from dfshield.training.batchnorm import BatchNormRecords


@dataclass(frozen=True)
class UpdateRecord:
    """What one update did.

    Attributes:
        epoch: in which epoch.
        update: its number within the epoch.
        loss: mean over its mini-batches.
        terms: the terms of the objective by name, weighted as in it, likewise.
        agreement_rate: share of parameters whose gradients agree (GradRefine).
        ends_epoch: whether it is the last of its epoch.
    """

    epoch: int
    update: int
    loss: float
    terms: Mapping[str, float]
    agreement_rate: float
    ends_epoch: bool

    @classmethod
    def of(
        cls,
        mini_batches: Sequence["MiniBatch"],
        epoch: int,
        update: int,
        rate: float,
        *,
        ends_epoch: bool,
    ) -> "UpdateRecord":
        """Return the record of an update from those of its mini-batches."""
        losses = torch.stack([mini_batch.losses for mini_batch in mini_batches])
        total, *terms = losses.mean(dim=0).tolist()
        named = dict(zip(mini_batches[0].terms, terms, strict=True))
        return cls(epoch, update, total, named, rate, ends_epoch=ends_epoch)

    def to_json(self) -> dict[str, Any]:
        """Return the record as history and events keep it, a key ``loss_NAME`` for each term."""
        return {
            "epoch": self.epoch,
            "update": self.update,
            "loss": self.loss,
            **{f"loss_{name}": value for name, value in self.terms.items()},
            "agreement_rate": self.agreement_rate,
        }


class MiniBatch(NamedTuple):
    """What is left of a mini-batch once its gradient is accumulated."""

    batch: int
    terms: tuple[str, ...]
    losses: Float[Tensor, " losses"]  # the total, then the terms
    records: BatchNormRecords
    rows: Int[Tensor, " n"] | None = None  # of its images, where perturbations are kept
    perturbations: Float16[Tensor, "n c h w"] | None = None

    def to_cpu(self) -> "MiniBatch":
        """Return it on the CPU."""
        return self._replace(
            losses=self.losses.cpu(),
            records=self.records.to("cpu"),
            rows=None if self.rows is None else self.rows.cpu(),
            perturbations=None if self.perturbations is None else self.perturbations.cpu(),
        )
