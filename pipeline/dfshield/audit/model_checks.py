"""Checks of the model itself: what it answers, and whether it answers by the image alone."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.audit.checks import ATHALYE, CARLINI, Check, Verdict
from dfshield.audit.comparison import robust_share
from dfshield.audit.subject import Subject, WithoutGradient
from dfshield.classifiers import PROBABILITIES, are_probabilities, same_logits
from dfshield.results import COLLAPSE_SHARE

BATCH_STATISTICS = "Carlini et al. (2019): the model attacked is the model deployed"
FLOOR = "a constant classifier withstands every attack"
MOST_ZERO_GRADIENTS = 0.05
"""Share of right images without gradient from which gradient attacks say nothing."""


def finite_logits(subject: Subject) -> Check:
    """Check that no image, clean or attacked so far, made the logits NaN or infinite."""
    count = subject.non_finite()
    finding = f"{count} of {len(subject)} images gave logits that are not finite"
    return Check(
        key="finite-logits",
        title="Logits are finite, also under attack",
        verdict="fail" if count else "pass",
        finding=finding if count else "no image, clean or attacked, gave NaN or infinite logits",
        evidence={"images": count},
        source=CARLINI,
    )


def returns_logits(subject: Subject) -> Check:
    """Check that the answers are logits: a softmax at the end flattens the gradient."""
    answers = subject.logits(subject.x)
    found = are_probabilities(answers)
    total = float(answers.sum(1).nan_to_num().mean())
    return Check(
        key="logits",
        title="The model returns logits, not probabilities",
        verdict="fail" if found else "pass",
        finding=(
            f"{PROBABILITIES}; return what stands before the softmax"
            if found
            else "no softmax at the end: rows are no probabilities"
        ),
        evidence={"least": float(answers.nan_to_num().min()), "mean_row_sum": total},
        source=CARLINI,
    )


def deterministic(subject: Subject, *, averaged: bool = False) -> Check:
    """Check that the same images get the same logits when they are asked about twice.

    Args:
        subject: model and images.
        averaged: whether what is shown of the model was measured over its draws: a warning then.
    """
    first, second = subject.logits(subject.x), subject.logits(subject.x)
    shift = _largest_shift(first, second)
    flips = int((first.argmax(1) != second.argmax(1)).sum())
    same = same_logits(first, second)
    finding = (
        "the same images get the same logits when asked about twice"
        if same
        else f"asked twice, logits move by {shift:.2g} of the largest and {flips} of "
        f"{len(subject)} predictions differ: a gradient attack follows one draw, so use "
        "AutoAttack's version rand (EOT)"
    )
    return Check(
        key="deterministic",
        title="The model is deterministic",
        verdict="pass" if same else "warn" if averaged else "fail",
        finding=finding,
        evidence={"largest_shift": shift, "predictions_differing": flips},
        source=ATHALYE,
    )


def batch_independent(subject: Subject) -> Check:
    """Check that an image's logits do not depend on the images beside it, as in eval mode.

    Each image is asked about among its neighbours and among every second image; what a randomised
    model moves by anyway is not counted.
    """
    x = subject.x[: subject.slice_size]
    together = subject.logits(x)[::2]
    apart = subject.logits(x[::2])
    shift, noise = _largest_shift(together, apart), _largest_shift(together, subject.logits(x)[::2])
    flips = int((together.argmax(1) != apart.argmax(1)).sum())
    layers = _training_layers(subject)
    depends = not same_logits(together, apart) and shift > 2 * noise
    finding = "logits of an image are the same beside other images"
    if depends:
        finding = (
            f"beside other images, logits move by {shift:.2g} of the largest and {flips} of "
            f"{len(apart)} predictions differ: the model normalises by the statistics of the batch"
        )
    elif layers:
        finding += f", but {layers} BatchNorm layers use the statistics of the batch"
    return Check(
        key="batch-independent",
        title="BatchNorm is in eval mode: an image's answer is its own",
        verdict="fail" if depends else "warn" if layers else "pass",
        finding=finding,
        evidence={
            "largest_shift": shift,
            "predictions_differing": flips,
            "layers_with_batch_statistics": layers,
        },
        source=BATCH_STATISTICS,
    )


def _training_layers(subject: Subject) -> int:
    """Return how many BatchNorm layers of the model in eval mode still use batch statistics."""
    modes = [(module, module.training) for module in subject.model.modules()]
    subject.model.eval()
    found = sum(
        module.training or module.running_mean is None
        for module, _ in modes
        if isinstance(module, _BatchNorm)
    )
    for module, training in modes:
        module.training = training
    return found


def _largest_shift(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference of finite logits, as a share of the largest logit."""
    finite = first.isfinite() & second.isfinite()
    if not bool(finite.any()):
        return 0.0
    first, second = first[finite], second[finite]
    scale = first.abs().max().clamp_min(torch.finfo(first.dtype).tiny)
    return float((first - second).abs().max() / scale)


def gradients(subject: Subject) -> Check:
    """Check that the cross-entropy of right images has a gradient, finite and not exactly zero."""
    logits = subject.logits(subject.x)
    right = logits.argmax(1) == subject.y
    gradient = subject.gradient(subject.x, subject.y).flatten(1)[right]
    total = max(1, len(gradient))
    zero = int((gradient == 0).all(1).sum())
    broken = int((~gradient.isfinite().all(1)).sum())
    certain = F.softmax(logits[right], dim=1).amax(1) == 1
    finding = (
        f"of {len(gradient)} images answered right, {zero} have a gradient of exactly zero, "
        f"{broken} one that is not finite, and {int(certain.sum())} a probability that "
        "rounds to 1"
    )
    if isinstance(subject.model, WithoutGradient):
        finding = "the model's logits carry no gradient at all with respect to its images"
    verdict: Verdict = "pass"
    if broken or zero > MOST_ZERO_GRADIENTS * total:
        verdict = "fail"
    elif zero:
        verdict = "warn"
    return Check(
        key="gradients",
        title="The loss has a gradient: nothing is flat or saturated",
        verdict=verdict,
        finding=finding,
        evidence={
            "images": len(gradient),
            "zero_gradients": zero,
            "non_finite_gradients": broken,
            "saturated": int(certain.sum()),
        },
        source=ATHALYE,
    )


def beats_floor(subject: Subject) -> Check:
    """Check that the model is better than the best constant classifier, clean and attacked.

    It fails if it is one: if its logits are the same for all images. A poor model (an untrained
    one, or one that has collapsed to a class) is warned of only: it hides no gradient.
    """
    clean = subject.broken(None)
    labels = subject.y.cpu().numpy()
    floor = float(np.bincount(labels).max() / len(labels))
    predicted = np.concatenate([part.clean_predictions for part in subject.slices(None)])
    histogram = np.bincount(predicted[predicted >= 0], minlength=subject.num_classes)
    share = float(histogram.max() / len(labels))
    accuracy, robust = robust_share(clean), robust_share(subject.worst_case())
    logits = subject.logits(subject.x)
    verdict: Verdict = "pass"
    finding = f"clean accuracy {accuracy:.1%}, worst case {robust:.1%}, floor {floor:.1%}"
    if len(logits) > 1 and same_logits(logits, logits[:1].expand_as(logits)):
        verdict = "fail"
        finding += f": every image gets the same logits, for class {histogram.argmax()}"
    elif share > COLLAPSE_SHARE:
        verdict = "warn"
        finding += f": collapsed, {share:.1%} of the predictions are class {histogram.argmax()}"
    elif accuracy <= floor:
        verdict = "warn"
        finding += ": no better than a constant classifier, even on unchanged images"
    elif robust <= floor:
        verdict = "warn"
        finding += ": under attack a constant classifier is no worse"
    return Check(
        key="floor",
        title="The floor is beaten: better than a constant classifier",
        verdict=verdict,
        finding=finding,
        evidence={
            "clean_accuracy": accuracy,
            "worst_case_accuracy": robust,
            "floor": floor,
            "largest_prediction_share": share,
        },
        source=FLOOR,
    )
