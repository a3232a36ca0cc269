"""Stage ``train``: surrogate images to student, in updates that can be resumed."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from dfshield.classifiers import Classifier, load, save
from dfshield.config import Config, TrainingConfig, check_group, expand
from dfshield.epsilon import parse_epsilon
from dfshield.errors import InputError
from dfshield.runs.context import RunContext
from dfshield.runs.executor import GroupWorker
from dfshield.runs.identity import STAGE_FILE, claim, finish, read_record, resumed_engine
from dfshield.runs.layout import local_path
from dfshield.runs.synthesis import synthesis_identity
from dfshield.runs.teacher import intact, load_teacher
from dfshield.seeds import Stage, generator
from dfshield.storage import (
    Folder,
    SurrogateDataset,
    SurrogateTables,
    load_checkpoint,
    save_checkpoint,
)
from dfshield.training import (
    AdversarialTrainer,
    HoldoutMetrics,
    InnerMaximization,
    Objective,
    SoftLabelObjective,
    TradesObjective,
    UpdateRecord,
    holdout_metrics,
)

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.json"
HOLDOUT_DRAWS = 1 << 30
"""Mini-batch index under which the hold-out's adversarial images draw: beyond any real one."""


def training_stage(context: RunContext, seed: int, *, replan: bool = False) -> None:
    """Train the student, going on from its last checkpoint.

    Args:
        context: the run.
        seed: which of its seeds.
        replan: go on under this machine's engine where the training was begun under another.

    Raises:
        InputError: if there is no complete surrogate data set, it was made from another teacher, or
            the student in the run folder has another identity or engine.
    """
    if student_is_done(context, seed):
        trained_student(context, seed)  # refuses other settings
        return
    teacher = load_teacher(context)
    dataset = _dataset(context, teacher, seed)
    num_images = _num_images(context.config, dataset)
    folder = context.layout.student(seed)
    surrogate = dataset.manifest.identity
    record = claim(folder, _identity(context.config, teacher, surrogate, num_images, seed))
    engine = context.executor.engine()
    if folder.exists(CHECKPOINT) and "engine" in record:
        engine = resumed_engine(engine, record["engine"], where=folder, replan=replan)
    record = {**record, "engine": engine.to_json()}
    folder.write_json(STAGE_FILE, record)
    folder.sweep_temporary()  # what a killed process was writing
    job = StudentJob(
        config=context.config,
        seed=seed,
        teacher=str(local_path(context.layout.teacher)),
        data=dataset.folder.uri,
        kept=context.kept.get(seed, {}),
        num_images=num_images,
        student=folder.uri,
    )
    context.executor.run_group(job, engine=engine, monitor=context.monitor)
    student = load(local_path(folder), trust_python=True)
    finish(folder, record, fingerprint=student.fingerprint())
    folder.delete(CHECKPOINT)
    context.log.emit("training_done", seed=seed)


def _dataset(context: RunContext, teacher: Classifier, seed: int) -> SurrogateDataset:
    elsewhere = context.config.training.data
    if elsewhere is not None:
        dataset = SurrogateDataset.open(expand(elsewhere, key="training.data"))
    else:
        folder = context.layout.synthetic(seed)
        if read_record(folder) is None:
            raise InputError(
                f"{folder} holds no surrogate images yet: run `dfshield synthesize` first"
            )
        dataset = SurrogateDataset.open(folder)
    if dataset.manifest.teacher_fingerprint != teacher.fingerprint():
        raise InputError(f"{dataset.folder} was made from another teacher than this run's")
    missing = {part.path for part in dataset.missing()} - context.kept.get(seed, {}).keys()
    if missing:
        raise InputError(
            f"{dataset.folder} is not complete ({len(missing)} of "
            f"{len(dataset.manifest.parts)} parts are missing): run `dfshield synthesize` first"
        )
    return dataset


def _num_images(config: Config, dataset: SurrogateDataset) -> int:
    planned = sum(part.num_images for part in dataset.manifest.split("data"))
    wanted = planned if config.training.data else config.synthesis.num_images
    if wanted > planned:
        raise InputError(
            f"synthesis.num_images: {wanted} wanted, {dataset.folder} holds {planned}: "
            "run `dfshield synthesize` first"
        )
    batch_size = config.training.batch_size
    try:
        check_group(config.training.gradrefine.num_batches, -(-wanted // batch_size))
    except ValueError as error:
        raise InputError(str(error)) from None
    if wanted % batch_size == 1:
        raise InputError(
            f"training.batch_size: {batch_size} leaves one image for the last mini-batch of "
            f"{wanted}, too few for BatchNorm; try {batch_size + 1}"
        )
    return wanted


def trained_student(context: RunContext, seed: int) -> Folder:
    """Return the folder of a finished student.

    Raises:
        InputError: if there is none, or it was trained with other settings.
    """
    folder = context.layout.student(seed)
    record = read_record(folder)
    if record is None or not record["done"]:
        raise InputError(f"{folder} holds no student yet: run `dfshield train` first")
    teacher = load_teacher(context)
    config = context.config
    if config.training.data is None:
        surrogate = synthesis_identity(config, teacher, seed)
        num_images = config.synthesis.num_images
    else:
        dataset = _dataset(context, teacher, seed)
        surrogate = dataset.manifest.identity
        num_images = _num_images(config, dataset)
    claim(folder, _identity(config, teacher, surrogate, num_images, seed))
    return folder


def _identity(
    config: Config, teacher: Classifier, surrogate: Mapping[str, Any], num_images: int, seed: int
) -> dict[str, Any]:
    training = config.training.model_dump(mode="json", exclude={"data", "checkpoint_every"})
    identity: dict[str, Any] = {
        "teacher_fingerprint": teacher.fingerprint(),
        "surrogate": dict(surrogate),
        "synthesis": {"num_images": num_images},
        "threat": {"norm": config.threat.norm, "eps": parse_epsilon(config.threat.eps)},
        "training": training,
        "seed": seed,
    }
    if config.training.select == "holdout":
        identity["synthesis"]["num_holdout"] = config.synthesis.num_holdout
    return identity


def student_is_done(context: RunContext, seed: int) -> bool:
    """Return whether the student was trained, with these settings or with others."""
    folder = context.layout.student(seed)
    record = read_record(folder)
    return record is not None and record["done"] and intact(context, folder)


def make_objective(training: TrainingConfig) -> Objective:
    """Return the objective that the configuration names."""
    options = training.objective.model_dump(exclude={"name"})
    if training.objective.name == "trades":
        return TradesObjective(**options)
    return SoftLabelObjective(**options)


@dataclass(frozen=True)
class StudentJob:
    """Trains one student; writes its checkpoints, its history and itself.

    Attributes:
        config: the run's.
        seed: which of its seeds.
        teacher: the folder of the teacher.
        data: the folder of the surrogate data set.
        kept: references to those of its parts that no file holds, by path.
        num_images: how many of its images are trained on.
        student: the folder that is written to.
    """

    config: Config
    seed: int
    teacher: str
    data: str
    kept: Mapping[str, object]
    num_images: int
    student: str

    def run(self, worker: GroupWorker) -> None:
        """Train until done, or until any worker is asked to stop: then a checkpoint is written."""
        run = _StudentRun(self, worker)
        trainer, monitor = run.trainer, worker.monitor
        total = trainer.epochs * trainer.updates_per_epoch
        done = trainer.epoch * trainer.updates_per_epoch + trainer.update
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
        training = job.config.training
        teacher = load(job.teacher, device=worker.device, trust_python=True)
        dataset = self._dataset()
        data = dataset.load("data", num_images=job.num_images, device=worker.device)
        self.holdout = dataset.load("holdout", device=worker.device)
        self.inner = InnerMaximization(
            eps=job.config.threat.eps,
            norm=job.config.threat.norm,
            steps=training.inner.steps,
            step=training.inner.step,
        )
        student = copy.deepcopy(teacher).requires_grad_(True)
        self.trainer = AdversarialTrainer(
            student,
            images=data.images,
            labels=data.labels,
            teacher_logits=data.teacher_logits,
            optimizer=torch.optim.SGD(
                student.parameters(),
                lr=training.learning_rate,
                momentum=training.momentum,
                nesterov=training.nesterov,
                weight_decay=training.weight_decay,
            ),
            objective=make_objective(training),
            inner=self.inner,
            epochs=training.epochs,
            batch_size=training.batch_size,
            num_batches=training.gradrefine.num_batches,
            tau=training.gradrefine.tau,
            seed=job.seed,
            group=worker.group,
        )
        self.student = student
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"agreement": -1.0, "student": {}}
        self._resume()

    def _dataset(self) -> SurrogateDataset | SurrogateTables:
        job = self.job
        dataset = SurrogateDataset.open(job.data)
        if not job.kept:
            return dataset
        return SurrogateTables(
            dataset.manifest, lambda part: self.worker.fetch(job.kept[part.path])
        )

    def _resume(self) -> None:
        state = load_checkpoint(self.folder, CHECKPOINT)
        if state is not None:
            self.trainer.load_state_dict(state["trainer"])
            self.history = state["history"]
            self.best = state["best"]

    def checkpoint(self) -> None:
        """Write what the training needs to go on from here."""
        if self.worker.group.rank != 0:
            return
        state = {
            "trainer": self.trainer.state_dict(),
            "history": self.history,
            "best": self.best,
        }
        save_checkpoint(self.folder, CHECKPOINT, state)
        self.worker.monitor.emit(
            "checkpoint", seed=self.job.seed, epoch=self.trainer.epoch, update=self.trainer.update
        )

    def update(self) -> None:
        """Do one update, what an ending epoch asks for, and a checkpoint when one is due."""
        record = self.trainer.step()
        fields = {k: v for k, v in asdict(record).items() if k != "ends_epoch"}
        self.history.append(fields)
        self.worker.monitor.emit("update", seed=self.job.seed, **fields)
        self.worker.monitor.detail(
            f"epoch {record.epoch + 1} loss {record.loss:.3f} "
            f"agreement rate {record.agreement_rate:.0%}"
        )
        if record.ends_epoch:
            metrics = self._measure(record) if len(self.holdout) else {}
            self.worker.report({**fields, **metrics})
        done = record.epoch * self.trainer.updates_per_epoch + record.update + 1
        if done % self.job.config.training.checkpoint_every == 0 and not self.trainer.done:
            self.checkpoint()

    def _measure(self, record: UpdateRecord) -> dict[str, Any]:
        metrics = holdout_metrics(
            self.student,
            self.holdout.images,
            self.holdout.teacher_logits,
            inner=self.inner,
            generator=partial(
                generator, self.job.seed, Stage.TRAINING, record.epoch, HOLDOUT_DRAWS
            ),
            group=self.worker.group,
        )
        plain = {**asdict(metrics), "histogram": list(metrics.histogram)}
        self.history.append({"epoch": record.epoch, "holdout": plain})
        monitor = self.worker.monitor
        monitor.emit("epoch", seed=self.job.seed, epoch=record.epoch, **plain)
        if metrics.collapsed:
            self.worker.monitor.emit(
                "alarm", seed=self.job.seed, epoch=record.epoch, kind="collapsed"
            )
            self.worker.monitor.say(
                f"Alarm: after epoch {record.epoch + 1} the student gives one class to more than "
                "95 % of the synthetic hold-out; it has collapsed"
            )
        if self.job.config.training.select == "holdout":
            self._keep_if_best(metrics)
        return plain

    def _keep_if_best(self, metrics: HoldoutMetrics) -> None:
        if metrics.agreement_pgd > self.best["agreement"]:
            weights = {k: v.detach().cpu().clone() for k, v in self.student.state_dict().items()}
            self.best = {"agreement": metrics.agreement_pgd, "student": weights}

    def finish(self) -> None:
        """Write the history and the student that is kept."""
        if self.worker.group.rank != 0:
            return
        if self.best["student"]:
            self.student.load_state_dict(self.best["student"])
        self.folder.write_json(HISTORY, self.history)
        save(self.student.cpu().eval(), local_path(self.folder))
