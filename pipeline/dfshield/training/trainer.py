"""Images to student: the epoch loop of the adversarial training, one update at a time."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer

from dfshield.checks import at_least
from dfshield.classifiers import gradients, load_state, modes_kept
from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError, one_line
from dfshield.schedules import Schedule
from dfshield.seeds import whole_seed
from dfshield.training.augmentations import Augmentation
from dfshield.training.augmenting import Augmenter
from dfshield.training.averages import AVERAGES, Average
from dfshield.training.averaging import StudentAverage
from dfshield.training.gradrefine import GradRefine
from dfshield.training.group import SingleWorker, WorkerGroup
from dfshield.training.group_gradients import GroupGradients
from dfshield.training.image_batches import ImageBatches
from dfshield.training.inner_maximization import InnerMaximization
from dfshield.training.kept_perturbations import KEPT_ALONE, KeptPerturbations
from dfshield.training.learning_rates import LearningRates
from dfshield.training.objectives import Objective
from dfshield.training.passes import StudentPasses
from dfshield.training.records import MiniBatch, UpdateRecord
from dfshield.training.requirements import require_kind, require_training
from dfshield.training.weight_perturbation import WeightPerturbation


class AdversarialTrainer:
    """Second half of Algorithm 1: groups of K mini-batches, each ending in one GradRefine update.

    In every mini-batch the adversarial images are crafted by `inner`, the objective is formed from
    one clean and one adversarial train-mode pass and the teacher's stored logits, and its gradient
    is accumulated. BatchNorm buffers move when the group ends. An epoch is a fresh permutation; a
    last mini-batch or group may be short.

    Everything random derives from ``(seed, epoch, mini-batch)``: a trainer that is given the state
    of another one at an update boundary goes on exactly as that one would have.

    The workers of a group, each with a trainer built with the same arguments (and an equal
    student), call `step` together: pass k of a group, of one mini-batch or of as many as are
    attacked together, is computed by worker ``k mod size``.
    All take the same step and return the same record, equal to those of one worker where
    `GradRefine`'s sums are exact; so any number of workers may go on from a state. A student with
    buffers, other than BatchNorm's, that move in its forward pass needs a single worker.

    Args:
        student: the model to train, on its device; a `Classifier` or any module from [0, 1] images
            to logits.
        images: surrogate images, on the student's device or the CPU: float32 or float16 in [0, 1],
            or uint8 in [0, 255].
        labels: their artificial labels.
        teacher_logits: the teacher's logits of them.
        optimizer: over the student's parameters.
        objective: the outer loss.
        inner: the inner maximisation.
        epochs: passes over the data.
        batch_size: images per mini-batch.
        num_batches: K, the mini-batches whose gradients are refined together.
        tau: GradRefine's agreement threshold.
        schedule: of the optimizer's learning rates; None leaves them alone.
        average: of the students of many updates, which `averaged` gives; None keeps none.
        augmentations: change the images of every mini-batch, one after the other.
        teacher: is asked for its logits of images that these have changed, on the student's device.
        weight_perturbation: radius in (0, 0.1] of a `WeightPerturbation`; None perturbs none.
        seed: the run's seed.
        group: the workers that train together; None is this one alone.
        acceleration: how passes of the student may be computed faster; see `AcceleratedStudent`.
        batches_per_pass: mini-batches of a group that are attacked together.

    Attributes:
        passes: those of the student, as the training computes them.
        attacked: the student as attacks in training see it.

    Raises:
        InputError: for a student without weights to train or logits to train on, data, an optimizer
            or numbers that cannot be, naming the argument.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        images: Shaped[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        teacher_logits: Float[Tensor, "n k"],
        optimizer: Optimizer,
        objective: Objective,
        inner: InnerMaximization,
        epochs: int,
        batch_size: int = 200,
        num_batches: int = 20,
        tau: float = 0.5,
        schedule: Schedule | None = None,
        average: Average | None = None,
        augmentations: Sequence[Augmentation] = (),
        teacher: nn.Module | None = None,
        weight_perturbation: float | None = None,
        seed: int = 0,
        group: WorkerGroup | None = None,
        acceleration: Acceleration | None = None,
        batches_per_pass: int = 1,
    ) -> None:
        require_training(
            student,
            optimizer,
            images=images,
            labels=labels,
            teacher_logits=teacher_logits,
            batch_size=at_least(1, batch_size, "batch_size"),
        )
        require_kind(inner, InnerMaximization, "inner")
        self.student, self.optimizer = student, optimizer
        self.objective, self.inner = objective, inner
        self.epochs, self.seed = at_least(1, epochs, "epochs"), whole_seed(seed)
        self.group: WorkerGroup = group or SingleWorker()
        self._refine = GradRefine(optimizer, tau=tau, group=self.group)
        self.passes = StudentPasses(
            student,
            image_shape=tuple(images.shape[1:]),
            full_size=batch_size,
            together=at_least(1, batches_per_pass, "batches_per_pass"),
            acceleration=acceleration or Acceleration(),
        )
        self._batches = ImageBatches(
            images,
            labels,
            teacher_logits,
            epochs=epochs,
            batch_size=batch_size,
            num_batches=at_least(1, num_batches, "num_batches"),
            batches_per_pass=batches_per_pass,
            seed=self.seed,
            draw=inner.start_noise,
            group=self.group,
            device=self.passes.device,
        )
        self._prepare(augmentations, teacher, weight_perturbation)
        self._follow(schedule, average)

    def _prepare(
        self,
        augmentations: Sequence[Augmentation],
        teacher: nn.Module | None,
        radius: float | None,
    ) -> None:
        """Set up what computes the gradients of an update."""
        require_kind(self.objective, Objective, "objective")
        self.attacked = self.passes.attacked
        augmenter, perturbation = None, None
        num_images, *shape = self._batches.shape
        self._kept = KeptPerturbations(num_images, shape) if self.inner.start == "kept" else None
        if self._kept is not None and augmentations:
            raise InputError(f"inner: {KEPT_ALONE}")
        if augmentations:
            augmenter = Augmenter(augmentations, teacher, image_shape=tuple(shape), seed=self.seed)
        if radius is not None:
            weights = [w for group in self.optimizer.param_groups for w in group["params"]]
            perturbation = WeightPerturbation(weights, radius, group=self.group)
        self._gradients = GroupGradients(
            self.passes,
            self._batches,
            self._refine,
            objective=self.objective,
            inner=self.inner,
            augmenter=augmenter,
            perturbation=perturbation,
            kept=self._kept,
            seed=self.seed,
        )

    def _follow(self, schedule: Schedule | None, average: Average | None) -> None:
        """Set up what goes along with the updates."""
        self.epoch, self.update = 0, 0  # the update within the epoch
        self._rates = LearningRates(
            schedule, self.optimizer, num_updates=self.epochs * self.updates_per_epoch
        )
        self._average = StudentAverage(
            average or AVERAGES.make("none"),
            self.student,
            passes=self.passes,
            batches=self._batches,
            epochs=self.epochs,
            seed=self.seed,
            group=self.group,
        )

    @property
    def batches_per_epoch(self) -> int:
        """Mini-batches in an epoch, a short last one included."""
        return self._batches.per_epoch

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch, that of a short last group included."""
        return self._batches.updates_per_epoch

    @property
    def updates_done(self) -> int:
        """Updates since the first epoch began."""
        return self.epoch * self.updates_per_epoch + self.update

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch >= self.epochs

    def step(self) -> UpdateRecord:
        """Do the next update: one group of mini-batches.

        The student is in the mode in which it was afterwards. A step that fails leaves its weights
        and BatchNorm buffers as they were before it, and no gradient.

        Raises:
            InputError: if all epochs are over, or the student answers in train mode with what is no
                logits.
            DfshieldError: if the training diverges, on every worker alike.
        """
        if self.done:
            raise InputError(f"epochs: all {self.epochs} are over, no step is left (see `done`)")
        with modes_kept(self.student), gradients():
            self.student.zero_grad(set_to_none=True)  # what the caller has left
            try:
                return self._step()
            except BaseException:
                self._gradients.reset()
                raise
            finally:
                self.student.zero_grad(set_to_none=True)

    def _step(self) -> UpdateRecord:
        self.student.train()
        own = self._gradients.accumulate(self.epoch, self.update)
        self._rates.set(self.updates_done)
        rate = self._refine.step()
        mini_batches = self._gather(own)
        for mini_batch in mini_batches:
            self.passes.apply(mini_batch.records)
        if self._kept is not None:
            self._kept.update(mini_batches)
        self._average.update(self.updates_done)
        epoch, update = self.epoch, self.update
        self._advance()
        return UpdateRecord.of(mini_batches, epoch, update, rate, ends_epoch=self.update == 0)

    def _gather(self, own: list[MiniBatch]) -> list[MiniBatch]:
        """Return the mini-batches of all workers in their order, on the CPU."""
        sent = [mini_batch.to_cpu() for mini_batch in own]
        return sorted(chain.from_iterable(self.group.all_gather(sent)), key=lambda m: m.batch)

    def _advance(self) -> None:
        self.update += 1
        if self.update == self.updates_per_epoch:
            self.epoch, self.update = self.epoch + 1, 0

    def averaged(self) -> AbstractContextManager[None]:
        """Let the student, and `attacked`, be the average in a block, if there is one yet.

        All workers of a group enter the block together. Afterwards the student is as it was.
        """
        return self._average.in_student(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from this update boundary (not a copy)."""
        return {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "update": self.update,
            **({"average": self._average.weights} if self._average.begun else {}),
            **({} if self._kept is None else {"perturbations": self._kept.values}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a trainer that was built with the same arguments; it is copied.

        Raises:
            InputError: for what is no such state.
        """
        try:
            epoch, update = state["epoch"], state["update"]
            load_state(self.student, state["student"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            self._average.load(state.get("average", ()))
            if self._kept is not None:
                self._kept.load(state["perturbations"])
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise InputError(
                "state: is none of a trainer with the same student and optimizer: "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error
        self.epoch, self.update = epoch, update
