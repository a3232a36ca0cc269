"""A look at a teacher before hours are spent on it: what was assumed, and whether it works."""

from dfshield.classifiers import Classifier, unseen_batchnorm
from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult, evaluate
from dfshield.runs.context import RunContext
from dfshield.runs.inputs.evaluation_images import real_images, require_evaluation_data

IMAGES = 200
"""Test images that are looked at: enough to tell a classifier from a guess."""
NEAR = 0.2
"""An accuracy less than this share of the way from the floor to 1 is near the floor."""


def remarks(classifier: Classifier) -> list[str]:
    """Return what people should know of a classifier that was just built, in sentences."""
    return [said for said in (classifier.assumption, remark_of_unseen(classifier)) if said]


def remark_of_unseen(classifier: Classifier) -> str:
    """Return what is to be said of BatchNorm layers that have never seen a batch, or ""."""
    unseen = unseen_batchnorm(classifier)
    if not unseen:
        return ""
    return (
        f"{classifier.architecture.source}: {len(unseen)} BatchNorm layers ({unseen[0]} first) "
        "have never seen a batch: their running statistics are 0 and 1, as in a network that "
        "was not trained"
    )


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
    context.observer.say(f"Teacher: {format_accuracy(result)}")
    alarm = alarm_of(result)
    if alarm:
        context.observer.say(f"Alarm: {alarm}")


def format_accuracy(result: EvaluationResult) -> str:
    """Return how many of the images that were looked at are right."""
    return (
        f"{result.accuracy:.1%} of {result.num_images} test images right "
        f"(a constant classifier: {result.floor:.1%})"
    )


def alarm_of(result: EvaluationResult) -> str:
    """Return what is wrong with a teacher that does not get more right than by chance, or ""."""
    if result.accuracy >= result.floor + NEAR * (1 - result.floor):
        return ""
    return (
        "the teacher is near the floor, so there is little to harden: look at teacher.mean and "
        "teacher.std, teacher.class_names and the weights"
    )
