"""The contract of the baselines: options of a method that trains generator and student together."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from dfshield.baselines.student import Init
from dfshield.checks import at_least, one_of, positive
from dfshield.classifiers import Classifier
from dfshield.families import Variant
from dfshield.training import InnerMaximization

if TYPE_CHECKING:
    from dfshield.baselines.training import BaselineTraining

Access = Literal["labels", "logits", "gradients"]
"""What a method asks of the teacher, from least to most: its class, its logits, their gradient."""


class Baseline(Variant, ABC):
    """A method that trains a generator and the student together. It holds options only.

    A subclass keeps its options as attributes of the same names.

    Args:
        init: where the student begins: ``teacher``, as a copy of the teacher, or ``scratch``, at
            random weights of the same architecture.
        batch_size: images of a step.
        student_learning_rate: of the student's optimiser.
        generator_learning_rate: of the generator's optimiser.

    Raises:
        InputError: for an option that cannot be.

    Attributes:
        unusual: what a reader of its figures has to know; empty where there is nothing.
    """

    unusual: ClassVar[str] = ""

    def __init__(
        self,
        *,
        init: Init,
        batch_size: int,
        student_learning_rate: float | int,
        generator_learning_rate: float | int,
    ) -> None:
        one_of(get_args(Init), init, "init")
        self.init: Init = init
        self.batch_size = at_least(2, batch_size, "batch_size")
        self.student_learning_rate = positive(
            student_learning_rate, "student_learning_rate", most=1e6
        )
        self.generator_learning_rate = positive(
            generator_learning_rate, "generator_learning_rate", most=1e6
        )

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps the training has."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """How many of them are called an epoch."""

    @property
    @abstractmethod
    def access(self) -> Access:
        """What is asked of the teacher."""

    @abstractmethod
    def begin(
        self, teacher: Classifier, *, inner: InnerMaximization, seed: int
    ) -> "BaselineTraining":
        """Return the training, at its beginning.

        Args:
            teacher: on the device of choice. A copy is used; the classifier is left as it is.
            inner: makes the adversarial images that the student is trained on, by loss ``kl``.
            seed: the run's seed; draws come from generators of ``RngStream.BASELINE``.

        Raises:
            InputError: if the method cannot be used with this teacher.
        """


class EpochBaseline(Baseline):
    """A baseline whose budget is a number of epochs.

    Args:
        epochs: how many.
        iterations_per_epoch: steps of one.
        others: see `Baseline`.
    """

    def __init__(self, *, epochs: int, iterations_per_epoch: int, **others: Any) -> None:
        super().__init__(**others)
        self.epochs = at_least(1, epochs, "epochs")
        self.iterations_per_epoch = at_least(1, iterations_per_epoch, "iterations_per_epoch")

    @property
    def steps(self) -> int:
        """All epochs' iterations."""
        return self.epochs * self.iterations_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """The iterations of an epoch."""
        return self.iterations_per_epoch
