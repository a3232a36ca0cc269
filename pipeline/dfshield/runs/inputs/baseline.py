"""The baseline that a configuration names, and its training at its beginning."""

from dfshield.baselines import BASELINES, Baseline, BaselineTraining
from dfshield.classifiers import Classifier
from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.training import InnerMaximization


def baseline_of(config: Config) -> Baseline:
    """Return the baseline of a configuration that names one."""
    assert config.method is not None
    return BASELINES.make(config.method.name, **config.method.options)


def begun_baseline(config: Config, teacher: Classifier, *, seed: int) -> BaselineTraining:
    """Return the training of a configuration's baseline, at its beginning.

    Raises:
        InputError: if it cannot be used with this teacher.
    """
    inner = config.training.inner
    maximisation = InnerMaximization(
        eps=config.threat.eps,
        norm=config.threat.norm,
        num_steps=inner.num_steps,
        step_size=inner.step_size,
        start=inner.start or "gaussian",
    )
    method = baseline_of(config)
    try:
        return method.begin(teacher, inner=maximisation, seed=seed)
    except InputError as error:
        raise type(error)(f"method {method.name}: {error}") from None
