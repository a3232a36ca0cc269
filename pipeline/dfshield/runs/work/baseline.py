"""The training of a student by a baseline, with its generator: one job of one worker."""

import copy
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dfshield import __version__
from dfshield.baselines import BaselineTraining
from dfshield.classifiers import Classifier
from dfshield.config import Config
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.baseline import baseline_of, begun_baseline
from dfshield.runs.inputs.classifier_folder import load_classifier, save_classifier
from dfshield.runs.names import CHECKPOINT, GENERATOR, HISTORY
from dfshield.storage import Checkpoint, Folder

WEIGHTS = f"{GENERATOR}/weights.safetensors"
DESCRIPTION = f"{GENERATOR}/config.json"
PICTURE = f"{GENERATOR}/samples.png"
GENERATOR_FILES = (WEIGHTS, DESCRIPTION, PICTURE)
"""In the folder of the student."""
CHECKPOINT_EVERY = 100
MOST_POINTS = 1000
"""Steps whose losses are recorded, at most."""
SAMPLES_PER_CLASS = 16
"""Samples that are drawn for each class of the picture, which shows those that fall on it."""
FORMAT_VERSION = 1


def baseline_checkpoint(student: Folder) -> Checkpoint:
    """Return the checkpoint of an unfinished training in the folder of its student."""
    return Checkpoint(
        student,
        CHECKPOINT,
        holds="training of a baseline",
        keys=("training", "history", "seconds"),
    )


@dataclass(frozen=True)
class BaselineJob:
    """Trains the student and its generator; writes checkpoints, history, generator and student.

    Attributes:
        config: the run's, which names the method.
        seed: which of its seeds.
        teacher: the folder of the teacher.
        student: the folder that is written to.
        engine: how it is computed.
    """

    config: Config
    seed: int
    teacher: str
    student: str
    engine: Engine

    def run(self, worker: Worker) -> dict[str, Any]:
        """Train, going on from a checkpoint, and return what there is to tell of it."""
        run = _BaselineRun(self, worker)
        training, monitor = run.training, worker.monitor
        total, done = training.steps, training.steps_done
        monitor.emit("training_started", seed=self.seed, updates=done, total=total)
        monitor.begin("Training generator and student", total=total, done=done, unit="steps")
        while not training.done:
            run.step()
            monitor.advance(1.0)
        monitor.end()
        return run.finish()


class _BaselineRun:
    """The state of one training, and what is recorded of it."""

    def __init__(self, job: BaselineJob, worker: Worker) -> None:
        self._job, self._worker = job, worker
        self._folder = Folder.at(job.student)
        teacher = load_classifier(Folder.at(job.teacher), device=worker.device)
        self.training = begun_baseline(job.config, teacher, seed=job.seed)
        self._every = job.config.training.checkpoint_every or CHECKPOINT_EVERY
        self._shown_every = max(1, self.training.steps // MOST_POINTS)
        self._history: list[dict[str, Any]] = []
        self._seconds_before, self._begun = 0.0, time.monotonic()
        self._hurried = False
        state = baseline_checkpoint(self._folder).load()
        if state is not None:
            self.training.load_state_dict(state["training"])
            self._history = state["history"]
            self._seconds_before = state["seconds"]

    @property
    def _seconds(self) -> float:
        """What the training has taken, over all processes that worked on it."""
        return self._seconds_before + time.monotonic() - self._begun

    def step(self) -> None:
        """Do one step; record it, and write a checkpoint, where these are due."""
        training = self.training
        losses = training.step()
        if training.diverged is not None:
            self._warn(f"step {training.diverged:,} diverged, a loss was not finite", "diverged")
            return
        if training.collapsed == training.steps_done:
            self._warn(f"all images of step {training.collapsed:,} are equal", "collapsed")
        number = training.steps_done
        if number % self._shown_every == 0 or number == training.steps:
            self._record(number, losses)
        hurry = not self._hurried and self._worker.preempted()
        self._hurried = self._hurried or hurry
        if (number % self._every == 0 and not training.done) or hurry:
            self._save()

    def _record(self, step: int, losses: Mapping[str, float]) -> None:
        epoch, update = divmod(step - 1, self.training.steps_per_epoch)
        seed, monitor = self._job.seed, self._worker.monitor
        if "loss" not in losses:  # the generator alone was trained
            monitor.emit("fit_step", seed=seed, step=step, **losses)
            return
        fields = {"epoch": epoch, "update": update, **losses}
        self._history.append({"step": step, **fields})
        monitor.emit("update", seed=seed, step=step, **fields)
        monitor.detail(f"loss {losses['loss']:.3f} generator {losses['loss_generator']:.3f}")

    def _save(self) -> None:
        state = {
            "training": self.training.state_dict(),
            "history": self._history,
            "seconds": self._seconds,
        }
        baseline_checkpoint(self._folder).save(state)
        self._worker.monitor.emit(
            "checkpoint", seed=self._job.seed, update=self.training.steps_done
        )

    def _warn(self, what: str, kind: str) -> None:
        step = self.training.diverged or self.training.collapsed
        monitor = self._worker.monitor
        monitor.emit("alarm", seed=self._job.seed, step=step, kind=kind)
        monitor.say(f"Alarm: {what}: the result says so")

    def finish(self) -> dict[str, Any]:
        """Write history, generator and student; return what there is to tell, ready for JSON."""
        training, folder = self.training, self._folder
        method, options = baseline_of(self._job.config), self._job.config.method
        assert options is not None
        folder.write_json(HISTORY, self._history)
        weights = safetensors.torch.save(training.generator_weights(), metadata={"format": "pt"})
        told = {
            "name": method.name,
            "options": options.options,
            "queries": method.access,
            "num_queries": training.queries,
            "steps": training.steps_done,
            "planned_steps": training.steps,
            "diverged": training.diverged,
            "collapsed": training.collapsed,
            "changed": list(training.changed),
            "generator": hashlib.sha256(weights).hexdigest(),
        }
        described = {
            "format_version": FORMAT_VERSION,
            "dfshield_version": __version__,
            "image_shape": list(training.teacher.input_shape),
            "num_classes": training.teacher.num_classes,
            **told,
        }
        folder.write_bytes(WEIGHTS, weights)
        folder.write_json(DESCRIPTION, described)
        folder.write_bytes(PICTURE, _picture(training))
        student = copy.deepcopy(training.student).cpu().eval()
        save_classifier(student, folder, data_free=self._job.config.data_free)
        return {**told, "seconds": round(self._seconds, 3)}


def _picture(training: BaselineTraining) -> bytes:
    """Return samples of the generator by the class that the teacher sees, as PNG."""
    from dfshield.report import grid_rows, image_grid  # brings matplotlib, which workers spare

    teacher = training.teacher
    rows = grid_rows(*teacher.input_shape[1:], teacher.num_classes)
    images = training.samples(SAMPLES_PER_CLASS * rows)
    if not bool(images.isfinite().all()):
        images = torch.zeros_like(images)
    labels = _classes(teacher, images)
    return image_grid(images, labels, teacher.class_names, title="As the teacher sees them")


def _classes(teacher: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        answers: Tensor = teacher(images.to(teacher.mean.device))
    return answers.argmax(dim=1).cpu()
