"""A look at a teacher before hours are spent on it: what was assumed, and whether it works."""

from dfshield.classifiers import Classifier, unseen_batchnorm
from dfshield.errors import InputError
from dfshield.evaluation import evaluate
from dfshield.runs.context import RunContext
from dfshield.runs.real_images import real_images, require_evaluation_data

IMAGES = 200
"""Test images that are looked at: enough to tell a classifier from a guess."""
NEAR = 0.2
"""An accuracy less than this share of the way from the floor to 1 is near the floor."""


def remarks(classifier: Classifier) -> list[str]:
    """Return what people should know of a classifier that was just built, in sentences."""
    said = [classifier.assumption] if classifier.assumption else []
    unseen = unseen_batchnorm(classifier)
    if unseen:
        said.append(
            f"{classifier.architecture.source}: {len(unseen)} BatchNorm layers ({unseen[0]} first) "
            "have never seen a batch: their running statistics are 0 and 1, as in a network that "
            "was not trained"
        )
    return said


def look_at(context: RunContext, classifier: Classifier) -> None:
    """Say what was assumed and, where test images are given, how many of some are right.

    Nothing depends on it: the images are forgotten.

    Raises:
        InputError: for test images that do not fit the classifier.
    """
    for remark in remarks(classifier):
        context.observer.say(remark)
    if context.config.evaluation.data is None:
        return
    try:
        require_evaluation_data(context.config)
    except InputError as error:
        context.observer.say(f"{error}; the teacher was not tried on them")
        return
    images = real_images(context.config, classifier, num_images=IMAGES)
    result = evaluate(classifier, images.images, None)
    context.observer.say(
        f"Teacher: {result.accuracy:.1%} of {result.num_images} test images right "
        f"(a constant classifier: {result.floor:.1%})"
    )
    if result.accuracy < result.floor + NEAR * (1 - result.floor):
        context.observer.say(
            "Alarm: the teacher is near the floor, so there is little to harden: look at "
            "teacher.mean and teacher.std, teacher.class_names and the weights"
        )
