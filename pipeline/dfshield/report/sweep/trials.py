"""What a sweep hands to its report: one record per trial, and what they have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, TypeAlias

from dfshield.brief import Brief
from dfshield.report.sweep.axes import EPS
from dfshield.results import AGREEMENT_PGD, HOLDOUT_TITLES

State: TypeAlias = Literal["done", "stopped", "failed", "interrupted", "running", "waiting"]


@dataclass(frozen=True)
class SweepTrial:
    """One student of a sweep: one combination of the swept keys, one seed.

    Attributes:
        name: of the trial, ``"t0007"``.
        state: ``stopped`` means early, by the scheduler.
        values: swept key (a path in the configuration) to value: a number, ``"8/255"`` or a word.
        seed: of the training.
        holdout: agreements of the student with the teacher on the synthetic hold-out, in [0, 1],
            by the name of the measure: ``agreement_clean``, ``agreement_pgd``; may be empty.
        test: accuracy on real test images, in [0, 1], by the label of the attack: ``"clean"``,
            ``"PGD-20"``, ``"AutoAttack"``; may be empty.
        floor: accuracy of the best constant classifier on the same images, in [0, 1].
        collapsed: one class takes more than 95 % of the predictions.
        seconds: wall time.
        reason: why the trial failed or was stopped.
        data_free: no real image was trained on.
    """

    name: str
    state: State
    values: Mapping[str, Any]
    seed: int
    holdout: Mapping[str, float]
    test: Mapping[str, float]
    floor: float | None
    collapsed: bool
    seconds: float
    reason: str = ""
    data_free: bool = True

    @property
    def below_floor(self) -> tuple[str, ...]:
        """Labels under which a classifier that always answers one class scores higher."""
        if self.floor is None:
            return ()
        return tuple(label for label, accuracy in self.test.items() if accuracy < self.floor)

    def figure(self, source: Literal["holdout", "test"], key: str) -> float | None:
        """Return a figure in [0, 1]; None where it is missing or not a number."""
        value = (self.holdout if source == "holdout" else self.test).get(key)
        return value if value is not None and isfinite(value) else None


@dataclass(frozen=True, repr=False)
class SweepData(Brief):
    """A sweep, finished or not.

    Attributes:
        name: of the sweep.
        created: when, in ISO 8601.
        architecture: of the students, ``"pytorchcv:resnet20_cifar10"``.
        data_name: what the test figures were measured on, ``"cifar10"``; None without any.
        threat: ``norm`` (``"linf"`` or ``"l2"``) and ``eps``, on the [0, 1] scale of the images.
        parameters: the swept keys in their order, each with its values.
        select_on: what the setting is chosen by; ``"test"`` uses real images.
        metric: the figure that the setting is chosen by: a key of ``holdout`` or of ``test``.
        trials: in the order in which they were planned.
        teacher: the teacher's own accuracy in [0, 1] by the label of the attack; may be empty.
        config_yaml: the configuration, as it would be swept again.
        versions: package name to version.
        settings: what is not swept, flattened: ``"training.gradrefine.num_batches"`` to 20.
        cases: of swept keys whose values are names: what each name sets, by config path.
        comparable: one setting can be better than another: they have one teacher, one threat and
            the same test images.
        measure: the key of ``holdout`` that stands for robustness where no image is real.
        titles: of the keys of ``holdout``, for people.
        keep_clean: share of the best clean figure that a recommended setting must have; None: any.
    """

    name: str
    created: str
    architecture: str
    data_name: str | None
    threat: Mapping[str, Any]
    parameters: Mapping[str, tuple[Any, ...]]
    select_on: Literal["holdout", "test"]
    metric: str
    trials: tuple[SweepTrial, ...]
    teacher: Mapping[str, float]
    config_yaml: str
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    cases: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    comparable: bool = True
    measure: str = AGREEMENT_PGD
    titles: Mapping[str, str] = field(default_factory=lambda: HOLDOUT_TITLES)
    keep_clean: float | None = None

    @property
    def eps_swept(self) -> bool:
        """Whether settings have an ε of their own."""
        set_by_cases = (of for cases in self.cases.values() for of in cases.values())
        return EPS in self.parameters or any(EPS in of for of in set_by_cases)
