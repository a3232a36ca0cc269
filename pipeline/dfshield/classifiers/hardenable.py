"""Whether a classifier has what hardening needs: BatchNorm statistics, float32, logits."""

import torch

from dfshield.classifiers.base import Classifier, batchnorm_layers
from dfshield.classifiers.behaviour import probe_images
from dfshield.classifiers.logits import require_logits
from dfshield.classifiers.modes import gradients
from dfshield.errors import InputError
from dfshield.seeds import torch_generators


def unseen_batchnorm(classifier: Classifier) -> list[str]:
    """Return the BatchNorm layers whose running statistics are those that they were made with."""
    return [
        name
        for name, layer in batchnorm_layers(classifier.network)
        if layer.running_mean is not None
        and layer.running_var is not None
        and not bool(layer.running_mean.any())
        and bool((layer.running_var == 1).all())
    ]


def require_batchnorm(classifier: Classifier) -> None:
    """Check that a classifier has what surrogate images are matched with.

    Raises:
        InputError: if it has no BatchNorm layer with running statistics.
    """
    if not batchnorm_layers(classifier):
        raise InputError(
            f"{classifier.architecture.source} has no BatchNorm layer with running statistics: "
            "synthesis without training data matches the feature statistics that those layers "
            "keep (eq. 4), so there is nothing to match"
        )


def require_float32(classifier: Classifier) -> None:
    """Check that a classifier computes in the precision that hardening does.

    Raises:
        InputError: naming a weight that is not float32, and what to do.
    """
    for name, parameter in classifier.network.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise InputError(
                f"{classifier.architecture.source}: {name} is "
                f"{str(parameter.dtype).removeprefix('torch.')}, but hardening "
                "computes in float32: let the factory return model.float(), or wrap that"
            )


def require_hardenable(classifier: Classifier) -> None:
    """Check that a classifier can be inverted and trained on.

    It needs BatchNorm running statistics, float32 weights, and logits with a gradient, no
    probabilities.

    Raises:
        InputError: naming what is not so, and what to do.
    """
    require_batchnorm(classifier)
    require_float32(classifier)
    require_differentiable(classifier)


def require_differentiable(classifier: Classifier) -> None:
    """Check that a classifier answers with logits that have a gradient, no probabilities.

    Raises:
        InputError: naming what is not so, and what to do.
    """
    source = classifier.architecture.source
    device = classifier.mean.device
    images = probe_images(classifier.input_shape)[:4].to(device).requires_grad_()
    with gradients(), torch_generators(0, device):
        logits = classifier(images)
    require_logits(logits, source)
    if not logits.requires_grad:
        raise InputError(
            f"{source}: its logits carry no gradient with respect to the images: take "
            "torch.no_grad, detach and the like out of its forward"
        )
