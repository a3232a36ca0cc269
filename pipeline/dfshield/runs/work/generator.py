"""Fitting a generator to the teacher: one job, done once, before any part is made."""

import hashlib
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dfshield.canonical import identity_hash
from dfshield.config import SynthesisConfig
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.names import CHECKPOINT, GENERATOR
from dfshield.storage import Checkpoint, Folder, Manifest, MissingFileError, read_manifest
from dfshield.synthesis import FittedSynthesizer, GeneratorFit

WEIGHTS = "weights.safetensors"
RECORD = "fit.json"
FORMAT_VERSION = 1
CHECKPOINT_EVERY = 100
MOST_POINTS = 200
"""Steps whose losses are recorded, at most."""


def fingerprint_of(data: Folder) -> str | None:
    """Return the fingerprint of the generator in the folder of a data set, a SHA-256 of its file.

    None if none has been fitted, or its file is missing or altered.
    """
    folder = data.child(GENERATOR)
    with suppress(MissingFileError, ValueError):
        record = folder.read_json(RECORD)
        found = hashlib.sha256(folder.read_bytes(WEIGHTS)).hexdigest()
        if isinstance(record, dict) and record.get("fingerprint") == found:
            return found
    return None


def generator_weights(data: Folder) -> dict[str, Tensor]:
    """Return the weights of the generator in the folder of a data set.

    Raises:
        InputError: if there is none, or it is not what was fitted.
    """
    folder = data.child(GENERATOR)
    if fingerprint_of(data) is None:
        raise InputError(f"{folder}: its generator is missing or altered: run the synthesis again")
    try:
        return safetensors.torch.load(folder.read_bytes(WEIGHTS))
    except SafetensorError as error:
        raise InputError(f"{folder}/{WEIGHTS}: cannot be read: {error}") from None


@dataclass(frozen=True)
class FitJob:
    """Fits the generator of a data set; writes its checkpoints, its record and its weights.

    Attributes:
        teacher: the folder of the classifier.
        data: the folder of the data set, with its manifest.
        synthesis: names the synthesizer.
    """

    teacher: str
    data: str
    synthesis: SynthesisConfig

    def run(self, worker: Worker) -> str:
        """Fit the generator, going on from a checkpoint, and return its fingerprint.

        Raises:
            DfshieldError: if a loss is not finite.
        """
        data = Folder.at(self.data)
        fitted = fingerprint_of(data)
        if fitted is not None:  # by a worker that was lost before it could say so
            return fitted
        manifest = read_manifest(data)
        synthesizer = synthesizer_of(self.synthesis)
        assert isinstance(synthesizer, FittedSynthesizer)
        fit = synthesizer.fit(
            load_classifier(Folder.at(self.teacher), device=worker.device),
            seed=manifest.seed,
            acceleration=Engine.from_json(manifest.engine).acceleration,
        )
        every = self.synthesis.checkpoint_every or CHECKPOINT_EVERY
        record = _FitRecord(data.child(GENERATOR), manifest, fit, every)
        monitor, total = worker.monitor, fit.steps
        monitor.emit("fit_started", seed=manifest.seed, steps=fit.steps_done, total=total)
        monitor.begin("Fitting the generator", total=total, done=fit.steps_done, unit="steps")
        while fit.steps_done < total:
            losses = fit.step()
            if record.after_step(losses, hurry=worker.preempted()):
                monitor.emit("fit_step", seed=manifest.seed, step=fit.steps_done, **losses)
            monitor.advance(1.0)
        monitor.end()
        fingerprint = record.commit()
        monitor.emit(
            "fit_done",
            seed=manifest.seed,
            fingerprint=fingerprint,
            seconds=round(record.seconds, 3),
        )
        return fingerprint


class _FitRecord:
    """What the folder of a generator holds: checkpoint, losses, and at the end the weights."""

    def __init__(self, folder: Folder, manifest: Manifest, fit: GeneratorFit, every: int) -> None:
        self._folder = folder
        self._checkpoint = Checkpoint(
            folder,
            CHECKPOINT,
            holds="fit of a generator",
            keys=("key", "fit", "losses", "seconds"),
        )
        self._fit = fit
        self._every = every
        self._shown_every = max(1, fit.steps // MOST_POINTS)
        self._hurried = False
        self._engine = manifest.engine
        self._key = identity_hash(
            {
                "format_version": FORMAT_VERSION,
                "identity": manifest.identity,
                "engine": manifest.engine,
            }
        )
        self._losses: list[dict[str, Any]] = []
        self._seconds_before, self._begun = 0.0, time.monotonic()
        self._resume()

    def _resume(self) -> None:
        state = None
        with suppress(DfshieldError):  # a damaged checkpoint is passed over
            state = self._checkpoint.load()
        if state is not None and state["key"] == self._key:
            self._fit.load_state_dict(state["fit"])
            self._losses = state["losses"]
            self._seconds_before = state["seconds"]

    @property
    def seconds(self) -> float:
        """What the fit has taken, over all processes that worked on it."""
        return self._seconds_before + time.monotonic() - self._begun

    def after_step(self, losses: Mapping[str, float], *, hurry: bool) -> bool:
        """Record the losses of a step and keep a checkpoint, if it is time to.

        Args:
            losses: by name.
            hurry: whether this machine is about to be taken away: then one is kept at once.

        Returns:
            Whether the losses were recorded.

        Raises:
            DfshieldError: if a loss is not finite.
        """
        step = self._fit.steps_done
        for name, value in losses.items():
            if not math.isfinite(value):
                raise DfshieldError(f"step {step} of the fit of the generator: {name} is {value}")
        recorded = step % self._shown_every == 0 or step == self._fit.steps
        if recorded:
            self._losses.append({"step": step, **losses})
        if step % self._every == 0 or (hurry and not self._hurried):
            self._hurried = self._hurried or hurry
            self._save()
        return recorded

    def _save(self) -> None:
        state = {
            "key": self._key,
            "fit": self._fit.state_dict(),
            "losses": self._losses,
            "seconds": self.seconds,
        }
        self._checkpoint.save(state)

    def commit(self) -> str:
        """Write the weights and then the record, which makes them valid; return the fingerprint."""
        weights = safetensors.torch.save(self._fit.weights(), metadata={"format": "pt"})
        fingerprint = hashlib.sha256(weights).hexdigest()
        self._folder.write_bytes(WEIGHTS, weights)
        record = {
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint,
            "steps": self._fit.steps,
            "losses": self._losses,
            "engine": self._engine,
        }
        self._folder.write_json(RECORD, record)
        self._checkpoint.delete()
        return fingerprint
