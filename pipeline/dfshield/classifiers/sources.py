"""From ``family:name`` to a classifier."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dfshield.checks import nearest
from dfshield.classifiers.architecture import Architecture, image_shape
from dfshield.classifiers.base import Classifier
from dfshield.classifiers.contained import contained
from dfshield.classifiers.logits import answer_to
from dfshield.classifiers.network_families import (
    NETWORK_FAMILIES,
    NetworkFamily,
    download_pytorchcv,
)
from dfshield.classifiers.normalisation import require_normalisation, unnormalised
from dfshield.classifiers.one_process import unsynced
from dfshield.classifiers.weights import Weights, fit_weights, read_weights
from dfshield.errors import InputError
from dfshield.seeds import torch_generators


def build(
    source: str,
    *,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    options: Mapping[str, object] | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
) -> Classifier:
    """Build a classifier, in eval mode on the CPU.

    Args:
        source: one of

            - ``dfshield:resnet8|20|32|44|56|110``: He et al.'s CIFAR ResNets; option ``width``;
            - ``medmnist:resnet18|resnet50``: the networks of the MedMNIST benchmark;
            - ``pytorchcv:NAME``: any CIFAR or SVHN ResNet or WRN of pytorchcv;
            - ``python:package.module:factory``: ``factory(**options)`` returns an ``nn.Module``
              that takes images normalised by `mean` and `std`; where these are left out, images
              in [0, 1] as they are. The module must be importable, here and wherever the saved
              classifier is loaded again.
        input_shape: (c, h, w); may be left out except for ``python:``.
        num_classes: may be left out for ``pytorchcv:`` and where `class_names` are given.
        class_names: one per class; "0", "1", ... when left out.
        mean: of the images in [0, 1] that the weights were trained on, one number per channel.
            Left out together with `std`: what a file that dfshield wrote says, else the family's
            (pytorchcv, medmnist), else mean 0 and std 1 for ``python:`` and 0.5 for fresh weights.
            What was assumed is told by the classifier's `assumption`.
        std: see `mean`; above 0. Both lie on the [0, 1] scale of the images.
        options: what else the source takes.
        weights: a ``.safetensors`` file, a state_dict that ``torch.save`` wrote, ``"download"``
            (pytorchcv only), or None for fresh weights.
        seed: of the fresh weights. PyTorch's global CPU generator is left as it was.

    Raises:
        InputError: for an unknown source or option, weights that do not fit, or a network whose
            logits are not (n, num_classes).
        DfshieldError: if a download fails.
    """
    family, name = _family(source)
    architecture = _architecture(
        source, family, name, input_shape, num_classes, class_names, options
    )
    file = _weights(source, name, weights)
    if file is not None and file.normalisation is not None:
        file = _as_it_stands(file, architecture)
    mean, std, assumption = _normalisation(architecture, family, mean, std, file)
    classifier = assemble(architecture, mean=mean, std=std, seed=seed)
    classifier.assumption = assumption
    if file is not None:
        fit_weights(classifier.network, file, source=source, num_classes=architecture.num_classes)
    _check_weights(classifier, source if file is None else str(file.path))
    return classifier


def _as_it_stands(file: Weights, architecture: Architecture) -> Weights:
    """Return a file for a network that itself has a ``mean``, a ``std`` and a ``network``."""
    channels = architecture.input_shape[0]
    plain = assemble(architecture, mean=[0.0] * channels, std=[1.0] * channels)
    if plain.network.state_dict().keys() != file.as_named.keys():
        return file
    return Weights(file.path, file.as_named, file.as_named, None)


def _check_weights(classifier: Classifier, origin: str) -> None:
    """Check that weights are finite and variances not negative.

    Raises:
        InputError: naming the tensor and where it came from.
    """
    for name, tensor in classifier.network.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{origin}: {name} holds NaN or infinite values")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise InputError(f"{origin}: {name} holds negative values, but is a variance")


def assemble(
    architecture: Architecture, *, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> Classifier:
    """Return a classifier with fresh weights, in eval mode, whose logits have the right shape.

    Raises:
        InputError: for an unknown source or option, or logits of another shape.
    """
    family, name = _family(architecture.source)
    with contained(), torch_generators(seed, torch.device("cpu")):
        network = unsynced(family.make(name, architecture))
        classifier = Classifier(network, architecture=architecture, mean=mean, std=std)
        classifier.eval()
        _check_logits(classifier)
    return classifier


def _check_logits(classifier: Classifier) -> None:
    source, wanted = classifier.architecture.source, (2, classifier.num_classes)
    images = torch.zeros(2, *classifier.input_shape, device=classifier.mean.device)
    logits = answer_to(classifier.network, classifier.normalise(images), source)
    if tuple(logits.shape) != wanted:
        raise InputError(
            f"{source} gives logits of shape {tuple(logits.shape)} for images of shape "
            f"{tuple(images.shape)}, but num_classes is {classifier.num_classes}: {wanted} expected"
        )


def _family(source: str) -> tuple[NetworkFamily, str]:
    prefix, colon, name = source.partition(":")
    if not colon or not name:
        raise InputError(f'source: {source!r} must be "family:name", such as "dfshield:resnet20"')
    if prefix not in NETWORK_FAMILIES:
        raise InputError(f"source: no family {prefix!r}; {nearest(prefix, NETWORK_FAMILIES)}")
    return NETWORK_FAMILIES[prefix], name


def _architecture(
    source: str,
    family: NetworkFamily,
    name: str,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    class_names: Sequence[str] | None,
    options: Mapping[str, object] | None,
) -> Architecture:
    shape = family.input_shape if input_shape is None else image_shape(input_shape)
    if shape is None:
        raise InputError(f"input_shape: {source} needs (channels, height, width) of one image")
    if num_classes is None:
        num_classes = len(class_names) if class_names else family.num_classes(name)
    if num_classes is None:
        raise InputError(f"num_classes: {source} needs the number of classes")
    return Architecture(source, options or {}, shape, num_classes, tuple(class_names or ()))


def _weights(source: str, name: str, weights: str | Path | None) -> Weights | None:
    if weights is None:
        return None
    if weights == "download":
        if not source.startswith("pytorchcv:"):
            raise InputError(f'weights: "download" is for pytorchcv sources only, not {source}')
        weights = download_pytorchcv(name)
    return read_weights(weights)


def _normalisation(
    architecture: Architecture,
    family: NetworkFamily,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    file: Weights | None,
) -> tuple[Sequence[float], Sequence[float], str]:
    """Return mean, std and, in words, what was assumed about them; nothing where it is known."""
    if (mean is None) != (std is None):
        raise InputError("mean, std: give both or neither")
    stored = None if file is None else file.normalisation
    if mean is not None and std is not None:
        require_normalisation("mean", mean)
        require_normalisation("std", std)
        if file is not None and stored is not None and not _same(stored, (mean, std)):
            raise InputError(
                f"mean, std: {list(mean)}, {list(std)} contradict {file.path}, which was saved "
                f"with {stored[0]}, {stored[1]}: leave them out"
            )
        return mean, std, ""
    if stored is not None:
        return (*stored, "")
    channels = architecture.input_shape[0]
    if family.normalisation is not None:
        default_mean, default_std = family.normalisation
        repeat = channels if len(default_mean) == 1 else 1
        mean, std = default_mean * repeat, default_std * repeat
        said = f"mean {list(mean)} and std {list(std)}, those of its family"
        return mean, std, f"{architecture.source}: images are normalised by {said}"
    if architecture.source.startswith("python:"):
        return (0.0,) * channels, (1.0,) * channels, unnormalised(architecture.source)
    if file is not None:
        raise InputError(
            f"mean, std: {file.path} does not say how its training images were normalised: "
            f"give both, {channels} numbers each"
        )
    return (0.5,) * channels, (0.5,) * channels, ""


def _same(
    stored: tuple[list[float], list[float]], given: tuple[Sequence[float], Sequence[float]]
) -> bool:
    return all(
        torch.equal(torch.tensor(a), torch.tensor(b, dtype=torch.float32))
        for a, b in zip(stored, given, strict=True)
    )
