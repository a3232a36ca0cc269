"""What one seed of a run gave, and its training as the page and the model card show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dfshield.report.scores import EvaluationView
from dfshield.report.views import (
    BaselineMethod,
    BaselineView,
    EngineTrial,
    Epoch,
    Reference,
    ReferenceView,
    Synthesis,
    SynthesisView,
    Update,
    checked,
    split_history,
)


@dataclass(frozen=True)
class SeedOutcome:
    """What one seed of a run gave.

    Attributes:
        seed: itself.
        evaluations: of teacher and student on real images; empty where none was measured.
        history: of the training: records of updates and of epochs, in their order.
        kept_epoch: the epoch, counted from 0, that the student is of; None without a hold-out.
        synthesis: how its surrogate images were made; None for a reference and a baseline.
        reference: the real images that a reference was trained on in their place; None for a
            student that is data-free.
        baseline: how a baseline trained it, which makes its own images; None without one.
        engine_trial: the fields of `EngineTrial`, of the trial by which it was chosen how the
            training is computed; None without one.
    """

    seed: int
    evaluations: tuple[EvaluationView, ...]
    history: tuple[Mapping[str, Any], ...]
    kept_epoch: int | None
    synthesis: SynthesisView | None
    reference: ReferenceView | None = None
    baseline: BaselineView | None = None
    engine_trial: Mapping[str, Any] | None = None

    @property
    def data_free(self) -> bool:
        """Whether the student was made without a real image."""
        return self.reference is None

    def method(self) -> BaselineMethod | None:
        """Return what is said of the baseline that made the student; None without one.

        Raises:
            InputError: a field is missing or out of range.
        """
        made = self.baseline
        what = f"baseline of seed {self.seed}"
        return None if made is None else checked(BaselineMethod, made, what)

    def images(self) -> tuple[Synthesis | None, Reference | None]:
        """Return what is said of the surrogate, or of the real, images that it was trained on.

        Raises:
            InputError: a field is missing or out of range.
        """
        of_seed = f"of seed {self.seed}"
        made, given = self.synthesis, self.reference
        return (
            None if made is None else checked(Synthesis, made, f"synthesis {of_seed}"),
            None if given is None else checked(Reference, given, f"reference {of_seed}"),
        )


@dataclass(frozen=True)
class Training:
    """The training of one student.

    Attributes:
        updates: its optimizer steps.
        epochs: its epochs on the synthetic hold-out; empty without one.
        kept: the epoch that the student is of; None without a hold-out.
        engine_trial: that of the training; None without one.
    """

    updates: tuple[Update, ...]
    epochs: tuple[Epoch, ...]
    kept: Epoch | None
    engine_trial: EngineTrial | None

    @property
    def rates(self) -> list[float]:
        """Agreement rates of GradRefine, where it was used."""
        return [u.agreement_rate for u in self.updates if u.agreement_rate is not None]

    @property
    def kept_how(self) -> str:
        """Which epoch was kept, in words: ``"epoch 7 of 20"``."""
        return f"epoch {self.kept.epoch + 1} of {len(self.epochs)}" if self.kept else ""


def training_of(outcome: SeedOutcome) -> Training:
    """Return the training of a seed.

    Raises:
        InputError: a record of its history lacks a field, or holds a value out of range.
    """
    updates, epochs = split_history(outcome.history)
    kept = next((epoch for epoch in epochs if epoch.epoch == outcome.kept_epoch), None)
    tried = outcome.engine_trial
    trial = None if tried is None else checked(EngineTrial, tried, f"trial of seed {outcome.seed}")
    return Training(tuple(updates), tuple(epochs), kept, trial)
