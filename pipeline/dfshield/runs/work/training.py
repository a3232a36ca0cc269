"""The training of one student, as a job that any number of workers do together."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dfshield.classifiers import load_state
from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.results import COLLAPSE_SHARE
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.protocol import GroupWorker
from dfshield.runs.inputs.classifier_folder import load_classifier, save_classifier
from dfshield.runs.names import CHECKPOINT, HISTORY
from dfshield.runs.work.history import KEPT, best_epoch, figure_of
from dfshield.runs.work.student_trainer import make_trainer, training_passes
from dfshield.runs.work.training_canary import TrainingCanary, agreed_canary
from dfshield.runs.work.training_images import training_images, training_reader
from dfshield.seeds import RngStream, generator
from dfshield.storage import Checkpoint, Folder
from dfshield.training import (
    MEASURES,
    HoldoutMetrics,
    InnerMaximization,
    UpdateRecord,
    holdout_metrics,
    measured_epochs,
)

CHECKPOINT_SHARE = 0.02
HOLDOUT_DRAWS = 1 << 30
"""Mini-batch index under which the hold-out's adversarial images draw: beyond any real one."""


def training_checkpoint(student: Folder) -> Checkpoint:
    """Return the checkpoint of an unfinished training in the folder of its student."""
    return Checkpoint(
        student,
        CHECKPOINT,
        holds="training of a student",
        keys=("trainer", "history", "best"),
    )


@dataclass(frozen=True)
class StudentJob:
    """Trains one student; writes its checkpoints, its history and itself.

    Attributes:
        config: the run's.
        seed: which of its seeds.
        teacher: the folder of the teacher.
        data: the folder of the surrogate data set; None for a reference on real images.
        refs: object references of those of its parts that no file holds, by path.
        num_images: how many of its images are trained on.
        student: the folder that is written to.
        engine: how it is computed.
        replan: whether the numbers that it was begun with do not count.
    """

    config: Config
    seed: int
    teacher: str
    data: str | None
    refs: Mapping[str, object]
    num_images: int
    student: str
    engine: Engine
    replan: bool = False

    @property
    def max_workers(self) -> int:
        """How many passes a group of mini-batches has to share out: K, of one mini-batch each."""
        return -(-self.config.training.gradrefine.num_batches // self.engine.batches_per_pass)

    def run(self, worker: GroupWorker) -> None:
        """Train until done, or until any worker is asked to stop: then a checkpoint is written."""
        run = _StudentRun(self, worker)
        trainer, monitor = run.trainer, worker.monitor
        total = trainer.epochs * trainer.updates_per_epoch
        done = trainer.updates_done
        monitor.emit("training_started", seed=self.seed, updates=done, total=total)
        monitor.begin("Training the student", total=total, done=done, unit="updates")
        while not trainer.done:
            if any(worker.group.all_gather(worker.stop_requested())):
                run.checkpoint()
                return
            run.update()
            monitor.advance(1.0)
        monitor.end()
        run.finish()


class _StudentRun:
    """The state of one training: trainer, history, and the best student so far.

    Every worker of the group has its own, and all are equal; that of rank 0 writes.
    """

    def __init__(self, job: StudentJob, worker: GroupWorker) -> None:
        self.job = job
        self.worker = worker
        self.folder = Folder.at(job.student)
        teacher = load_classifier(Folder.at(job.teacher), device=worker.device)
        dataset = training_reader(
            job.config, teacher, seed=job.seed, data=job.data, refs=job.refs, get=worker.get
        )
        data = training_images(dataset, "data", num_images=job.num_images, worker=worker)
        self.holdout = training_images(dataset, "holdout", worker=worker)
        self.student = copy.deepcopy(teacher).requires_grad_(True)
        self.trainer = make_trainer(
            job.config,
            self.student,
            teacher,
            data,
            seed=job.seed,
            engine=job.engine,
            group=worker.group,
        )
        # The same for every objective, so that its figures mean the same.
        inner = job.config.training.inner
        steps: dict[str, Any] = {"num_steps": inner.num_steps, "step_size": inner.step_size}
        self.measuring = InnerMaximization(
            eps=job.config.threat.eps,
            norm=job.config.threat.norm,
            # Steps that are enough from kept perturbations are too few without them.
            **({} if inner.start == "kept" else steps),
        )
        self.teacher = teacher
        measure = job.config.training.measure
        self.measure = MEASURES.make(measure.name, **measure.options)
        self.measured = self._measured_epochs()
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"agreement": -1.0, "student": {}}
        self.saved = time.monotonic()
        self.pause = 0.0
        self.hurried = False
        canary = TrainingCanary.of(self.trainer, data, size=job.config.training.batch_size)
        kept = self._resume()
        self.canary = agreed_canary(canary, None if job.replan else kept, worker)

    def _resume(self) -> str | None:
        """Take over the checkpoint, if there is one; return the canary that it keeps."""
        checkpoint = training_checkpoint(self.folder)
        state = checkpoint.load()
        if state is None:
            return None
        try:
            self.trainer.load_state_dict(state["trainer"])
        except InputError as error:
            raise checkpoint.refused(str(error)) from None
        self.history, self.best = state["history"], state["best"]
        canary: str | None = state.get("canary")  # that of older versions has none
        return canary

    def checkpoint(self) -> None:
        """Write what the training needs to go on from here."""
        if self.worker.group.rank != 0:
            return
        state = {
            "trainer": self.trainer.state_dict(),
            "history": self.history,
            "best": self.best,
            "canary": self.canary,
        }
        start = time.monotonic()
        training_checkpoint(self.folder).save(state)
        self.saved = time.monotonic()
        self.pause = (self.saved - start) / CHECKPOINT_SHARE
        self.worker.monitor.emit(
            "checkpoint", seed=self.job.seed, epoch=self.trainer.epoch, update=self.trainer.update
        )

    def update(self) -> None:
        """Do one update, what an ending epoch asks for, and a checkpoint when one is due."""
        record = self.trainer.step()
        fields = record.to_json()
        self.history.append(fields)
        step = self.trainer.updates_done
        self.worker.monitor.emit("update", seed=self.job.seed, step=step, **fields)
        self.worker.monitor.detail(
            f"epoch {record.epoch + 1} loss {record.loss:.3f} "
            f"agreement rate {record.agreement_rate:.0%}"
        )
        if record.ends_epoch:
            metrics = self._measure(record) if len(self.holdout) else {}
            self.worker.report({**fields, **metrics})
        if not self.trainer.done and self._checkpoint_is_due():
            self.checkpoint()

    def _checkpoint_is_due(self) -> bool:
        if not self.hurried and self.worker.preempted():
            self.hurried = True
            return True
        every = self.job.config.training.checkpoint_every
        if every is None:
            return time.monotonic() >= self.saved + self.pause
        return self.trainer.updates_done % every == 0

    def _measure(self, record: UpdateRecord) -> dict[str, Any]:
        with self.trainer.averaged():
            plain = self._holdout_metrics(record).to_json()
            self.history.append({"epoch": record.epoch, "holdout": plain})
            if self.job.config.training.select == "holdout":
                self._keep_if_best(record.epoch, plain)
        monitor = self.worker.monitor
        monitor.emit("epoch", seed=self.job.seed, epoch=record.epoch, **plain)
        if plain["collapsed"]:
            self._warn_of_collapse(record.epoch)
        return plain

    def _holdout_metrics(self, record: UpdateRecord) -> HoldoutMetrics:
        return holdout_metrics(
            self.trainer.attacked,
            self.holdout.images,
            self.holdout.teacher_logits,
            inner=self.measuring,
            generator=partial(
                generator, self.job.seed, RngStream.TRAINING, record.epoch, HOLDOUT_DRAWS
            ),
            group=self.worker.group,
            measure=self.measure if record.epoch in self.measured else None,
            teacher=self.teacher,
        )

    def _measured_epochs(self) -> range:
        """Return after which epochs the measure is taken: the last alone unless they are compared.

        A scheduler of a sweep compares them, too.
        """
        config, epochs = self.job.config, self.trainer.epochs
        if config.training.select == "last" and config.sweep.scheduler == "none":
            return range(epochs - 1, epochs)
        measured = measured_epochs(
            self.measure,
            epochs=epochs,
            num_holdout=len(self.holdout),
            num_images=self.job.num_images,
            passes=training_passes(config.training),
        )
        if len(measured) == 1 < epochs:
            self.worker.monitor.say(
                f"training.measure: {self.measure.name} is taken after the last epoch alone, since "
                "twice would cost more than 5 % of so short a training; agreement_pgd costs nothing"
            )
        return measured

    def _warn_of_collapse(self, epoch: int) -> None:
        self.worker.monitor.emit("alarm", seed=self.job.seed, epoch=epoch, kind="collapsed")
        self.worker.monitor.say(
            f"Alarm: after epoch {epoch + 1} the student gives one class to more than "
            f"{100 * COLLAPSE_SHARE:g} % of the synthetic hold-out; it has collapsed"
        )

    def _keep_if_best(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        if best_epoch(self.history, self.measure.name) == epoch:
            weights = {k: v.detach().cpu().clone() for k, v in self.student.state_dict().items()}
            figure = figure_of(metrics, self.measure.name)
            self.best = {"agreement": figure, "student": weights}

    def finish(self) -> None:
        """Write the history and the student that is kept; all workers do it together."""
        with self.trainer.averaged():
            if self.worker.group.rank != 0:
                return
            if self.best["student"]:
                load_state(self.student, self.best["student"])
                self.history.append({KEPT: best_epoch(self.history, self.measure.name)})
            self.folder.write_json(HISTORY, self.history)
            student = copy.deepcopy(self.student).cpu().eval()
            save_classifier(student, self.folder, data_free=self.job.config.data_free)
