"""What a teacher must be able to do to be hardened: tried on a few images before the work begins.

`dfshield run` refuses a teacher by the first check that fails; `dfshield doctor` tells of each.
"""

import copy
from collections.abc import Callable

import torch

from dfshield.classifiers import (
    Classifier,
    probe_images,
    require_batchnorm,
    require_differentiable,
    require_float32,
    require_hardenable,
    require_logits,
)
from dfshield.config import Config
from dfshield.errors import DfshieldError, InputError, one_line
from dfshield.runs.inputs.baseline import begun_baseline
from dfshield.seeds import RngStream, generator
from dfshield.synthesis import Inversion
from dfshield.training import InnerMaximization, require_deferrable, require_trainable

Check = Callable[[Classifier], object]


def _one_iteration(teacher: Classifier) -> None:
    Inversion(teacher, iterations=1).synthesize(seed=0, batch=0, size=2)


def _one_attack(teacher: Classifier) -> None:
    attack = InnerMaximization(eps=0.1, num_steps=1)
    attack(teacher, _images(teacher), generator=generator(0, RngStream.TEACHER))


def _one_mini_batch(teacher: Classifier) -> None:
    require_trainable(teacher, _images(teacher), name=teacher.architecture.source)


def _logits_in_training(teacher: Classifier) -> None:
    answers = teacher.behaviour().train
    if answers is not None:
        require_logits(answers, f"{teacher.architecture.source} in train mode")


def _deferred(teacher: Classifier) -> None:
    require_deferrable(teacher, _images(teacher))


def _images(teacher: Classifier) -> torch.Tensor:
    return probe_images(teacher.input_shape)[:2]


CHECKS: dict[str, Check] = {
    "BatchNorm layers": require_batchnorm,
    "precision": require_float32,
    "logits": require_hardenable,
    "a step of the synthesis": _one_iteration,
    "a step of an attack": _one_attack,
    "a mini-batch in train mode": _one_mini_batch,
    "logits in train mode": _logits_in_training,
    "BatchNorm in train mode": _deferred,
}
"""By what they look at; the order is that in which a run would come to it."""


_OF_SURROGATE_IMAGES = {"BatchNorm layers", "a step of the synthesis"}


def checks_of(config: Config) -> dict[str, Check]:
    """Return the checks of a run by what they look at: of a baseline its own demands, too."""
    if config.method is None:
        return CHECKS

    def method(teacher: Classifier) -> None:
        begun_baseline(config, teacher, seed=0)

    kept = {name: check for name, check in CHECKS.items() if name not in _OF_SURROGATE_IMAGES}
    return {**kept, "logits": require_differentiable, "the method": method}


def try_check(name: str, check: Check, teacher: Classifier) -> None:
    """Try one of `checks_of` on a copy of a teacher.

    Raises:
        InputError: if it fails, with what to do.
    """
    try:
        check(copy.deepcopy(teacher))
    except DfshieldError:
        raise
    except Exception as error:
        raise InputError(
            f"{teacher.architecture.source} fails in {name}: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


def require_usable(config: Config, teacher: Classifier) -> None:
    """Find out by one step of every stage what would otherwise stop the run later.

    Raises:
        InputError: if the classifier cannot be inverted, attacked by gradients, or trained.
    """
    for name, check in checks_of(config).items():
        try_check(name, check, teacher)
    if config.method is None:
        require_mini_batches(config, teacher)


def require_mini_batches(config: Config, teacher: Classifier) -> None:
    """Check that the student can be trained on mini-batches of every size that it will see.

    Raises:
        InputError: if it cannot.
    """
    training, key = config.training, "training.batch_size"
    if training.data is None and training.images is None:  # else the data set tells
        num_images = config.synthesis.num_images
        require_last_batch(teacher, num_images, training.batch_size, key=key)


def require_last_batch(teacher: Classifier, num_images: int, batch_size: int, *, key: str) -> None:
    """Check that a last mini-batch of one training image, if there is one, can be trained on.

    Args:
        teacher: what is trained.
        num_images: of an epoch.
        batch_size: of a mini-batch.
        key: that gives the size, for errors.

    Raises:
        InputError: if it cannot.
    """
    if batch_size > 1 and num_images % batch_size != 1:
        return
    try:
        one = torch.full((1, *teacher.input_shape), 0.5)
        require_trainable(teacher, one, name=teacher.architecture.source)
    except InputError as error:
        raise InputError(
            f"{key}: {batch_size} leaves one of {num_images} images for the last mini-batch, but "
            f"{error}: choose another"
        ) from None
