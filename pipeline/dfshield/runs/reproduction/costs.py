"""What tables and figures cost on this machine: passes, times the measured seconds of one."""

from dataclasses import dataclass, field

from dfshield.canonical import identity_hash
from dfshield.classifiers import Classifier
from dfshield.config import Config, VariantConfig
from dfshield.errors import InputError
from dfshield.runs.engines_here import images_to_train_on
from dfshield.runs.execution.engine_choice import multiply_adds
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.inputs.attack_plans import attacks_of
from dfshield.runs.inputs.baseline import baseline_of, begun_baseline
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.inputs.teacher_source import built_teacher
from dfshield.runs.planning import baseline_plan, seconds_of_pass
from dfshield.runs.work.student_trainer import training_passes

_MEASURED = 3e9
"""Multiply-adds of a pass that is measured, so that it takes no more than a second or two."""
_STEP = 10.0
"""How many times as much a step of a baseline is, at least."""
_CLASSES = 10
"""Of a network whose data set says how many it has: none is read to tell what it costs."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one worker here.

    Attributes:
        seconds: of what is counted.
        uncounted: what is not, such as attacks that tell no number of passes.
    """

    seconds: float
    uncounted: tuple[str, ...] = ()

    def __add__(self, other: "Cost") -> "Cost":
        """Return both together."""
        together = dict.fromkeys((*self.uncounted, *other.uncounted))
        return Cost(self.seconds + other.seconds, tuple(together))


@dataclass
class Costs:
    """Costs on this machine; each network is measured once, in a few iterations of the inversion.

    Networks have fresh weights, which cost as much as any. Nothing is compiled, so that what is
    compiled takes less. Training a teacher is not counted.
    """

    _pass: dict[str, float] = field(default_factory=dict)
    _baselines: dict[str, float] = field(default_factory=dict)

    def of_images(self, config: Config) -> Cost:
        """Return what the surrogate images of a configuration cost."""
        if config.synthesis.augment is not None:
            return Cost(0.0)
        wanted = config.synthesis.num_images + config.synthesis.num_holdout
        return Cost(synthesizer_of(config.synthesis).work(wanted) * self._seconds(config))

    def of_student(self, config: Config) -> Cost:
        """Return what the training of a student costs, and what measuring it does."""
        return self._training(config) + self.of_attacks(config, config.evaluation.attacks)

    def of_attacks(self, config: Config, attacks: tuple[VariantConfig, ...]) -> Cost:
        """Return what it costs to measure a student under attacks."""
        evaluation = config.evaluation.model_copy(update={"attacks": attacks})
        images, found = config.evaluation.num_images or 10_000, Cost(0.0)
        for attack in attacks_of(config.model_copy(update={"evaluation": evaluation})):
            if attack.passes is None:
                found += Cost(0.0, (attack.name,))
            else:
                found += Cost(attack.passes * images * self._seconds(config))
        return found

    def of_passes(self, config: Config, passes: float) -> Cost:
        """Return what forward passes of single images cost."""
        return Cost(passes * self._seconds(config))

    def _training(self, config: Config) -> Cost:
        if config.method is not None:
            return self._baseline(config, config.method)
        try:
            images = images_to_train_on(config, _network(config))
        except InputError:
            return Cost(0.0, ("a training on images that are missing",))
        training = config.training
        return Cost(training_passes(training) * training.epochs * images * self._seconds(config))

    def _baseline(self, config: Config, method: VariantConfig) -> Cost:
        key = identity_hash([self._key(config), method.model_dump(mode="json")])
        if key not in self._baselines:
            network = _network(config)
            begun = begun_baseline(config, network, seed=config.seed)
            whole = baseline_of(config).batch_size
            affordable = int(_MEASURED / _STEP / multiply_adds(network))
            few = min(whole, max(network.num_classes, affordable))
            small = {**method.options, "name": method.name, "batch_size": few}
            measured = VariantConfig.model_validate(small)
            plan = baseline_plan(
                config.model_copy(update={"method": measured}),
                network,
                InProcessExecutor().engine(),
            )
            self._baselines[key] = begun.steps * plan.seconds_per_unit * whole / few
        return Cost(self._baselines[key])

    def _seconds(self, config: Config) -> float:
        key = self._key(config)
        if key not in self._pass:
            network = _network(config)
            size = max(2, min(config.synthesis.batch_size, int(_MEASURED / multiply_adds(network))))
            engine = InProcessExecutor().engine()
            self._pass[key] = seconds_of_pass(network, engine, batch_size=size)
        return self._pass[key]

    @staticmethod
    def _key(config: Config) -> str:
        teacher = config.teacher.model_dump(mode="json", exclude={"weights", "train"})
        return identity_hash(teacher)


def _network(config: Config) -> Classifier:
    """Return the classifier that a configuration describes, with fresh weights."""
    classes = {} if config.teacher.num_classes else {"num_classes": _CLASSES}
    return built_teacher(config, weights=None, **classes)
