"""The families of networks that a source names before its colon."""

import contextlib
import copy
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn

from dfshield.checks import nearest
from dfshield.classifiers import cifar_resnet, medmnist_resnet
from dfshield.classifiers.architecture import Architecture
from dfshield.classifiers.contained import contained
from dfshield.errors import DfshieldError, InputError, one_line

_PYTORCHCV_CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10}


@dataclass(frozen=True)
class NetworkFamily:
    """What one kind of source needs.

    Attributes:
        make: returns the network of an architecture, given what stands behind the colon.
        input_shape: the shape that is meant when none is given.
        normalisation: mean and std that every network of the family was trained with.
        num_classes: the class count that a name implies, if any.
    """

    make: Callable[[str, Architecture], nn.Module]
    input_shape: tuple[int, int, int] | None = None
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    num_classes: Callable[[str], int | None] = lambda _: None


def _known_options(architecture: Architecture, known: Sequence[str]) -> Mapping[str, object]:
    for key in architecture.options:
        if key not in known:
            takes = nearest(key, known) if known else "it takes none"
            raise InputError(f"options.{key}: {architecture.source} has no such option; {takes}")
    return architecture.options


def _depth(name: str, depths: Sequence[int], architecture: Architecture) -> int:
    known = {f"resnet{depth}": depth for depth in depths}
    if name not in known:
        family = architecture.source.partition(":")[0]
        raise InputError(f"source: {family} has no model {name!r}; {nearest(name, known)}")
    smallest = cifar_resnet.SMALLEST_SIZE
    if min(architecture.input_shape[1:]) < smallest:
        raise InputError(
            f"input_shape: {architecture.input_shape} is too small for {architecture.source}: "
            f"height and width must be at least {smallest}"
        )
    return known[name]


def _make_dfshield(name: str, architecture: Architecture) -> nn.Module:
    depth = _depth(name, cifar_resnet.DEPTHS, architecture)
    width = _known_options(architecture, ["width"]).get("width", 16)
    if not isinstance(width, int) or isinstance(width, bool):
        raise InputError(f"options.width: {width!r} must be an integer")
    return cifar_resnet.CifarResNet(
        depth,
        in_channels=architecture.input_shape[0],
        num_classes=architecture.num_classes,
        width=width,
    )


def _make_medmnist(name: str, architecture: Architecture) -> nn.Module:
    depth = _depth(name, medmnist_resnet.DEPTHS, architecture)
    _known_options(architecture, [])
    return medmnist_resnet.MedmnistResNet(
        depth, in_channels=architecture.input_shape[0], num_classes=architecture.num_classes
    )


def pytorchcv_models() -> dict[str, Callable[..., nn.Module]]:
    """Return every CIFAR and SVHN ResNet and WRN of pytorchcv by name."""
    # The submodules alone: pytorchcv.model_provider imports torchvision.
    modules = map(
        importlib.import_module,
        ("pytorchcv.models.resnet_cifar", "pytorchcv.models.wrn_cifar"),
    )
    return {
        name: getattr(module, name)
        for module in modules
        for name in module.__all__
        if name.rpartition("_")[2] in _PYTORCHCV_CLASSES
    }


def _make_pytorchcv(name: str, architecture: Architecture) -> nn.Module:
    models = pytorchcv_models()
    if name not in models:
        raise InputError(
            f"source: pytorchcv has no CIFAR or SVHN model {name!r}; {nearest(name, models)}"
        )
    _known_options(architecture, [])
    if architecture.input_shape != (3, 32, 32):
        raise InputError(
            f"input_shape: {architecture.source} takes (3, 32, 32), not {architecture.input_shape}"
        )
    try:
        return models[name](num_classes=architecture.num_classes)
    except AssertionError:
        raise InputError(
            f"num_classes: {architecture.source} is made for 10 or 100 classes, not "
            f"{architecture.num_classes}: dfshield:resnet20 takes any number"
        ) from None


def download_pytorchcv(name: str) -> str:
    """Fetch a model's published weights, checked by their SHA-1, and return the file's path.

    Raises:
        InputError: if no weights are published under this name.
        DfshieldError: if they cannot be had.
    """
    store = importlib.import_module("pytorchcv.models.common.model_store")
    if name not in store.get_model_metainfo_dict():
        raise InputError(
            f'weights: pytorchcv publishes none for {name!r}: "download" cannot be used'
        )
    try:
        # Its progress lines must not mix with what the command line prints for machines.
        with contextlib.redirect_stdout(sys.stderr):
            return str(store.get_model_file(name))
    except (OSError, RuntimeError, ValueError) as error:
        # Network failures of requests are OSErrors.
        raise DfshieldError(
            f"weights: {name} could not be downloaded ({type(error).__name__}): fetch it where "
            "there is internet access and give the file's path as weights"
        ) from error


def _factory(name: str) -> Callable[..., object]:
    module_name, _, attribute = name.rpartition(":")
    if not re.fullmatch(r"\w+(\.\w+)*", module_name) or not attribute:
        raise InputError(f'source: "python:{name}" must be "python:package.module:factory"')
    module = _import(module_name)
    factory: object = getattr(module, attribute, None)
    if not callable(factory):
        near = nearest(attribute, (n for n in vars(module) if callable(getattr(module, n))))
        raise InputError(f"source: {module_name} has nothing to call named {attribute!r}; {near}")
    return factory


_dtypes: dict[str, torch.dtype] = {}
"""Of modules that set another default dtype when they were imported: it is their factories'."""


def _import(module_name: str) -> ModuleType:
    ours = torch.get_default_dtype()
    try:
        with contained():
            module = importlib.import_module(module_name)
            if torch.get_default_dtype() != ours:
                _dtypes[module_name] = torch.get_default_dtype()
            return module
    except (Exception, SystemExit) as error:
        what = f"source: cannot import {module_name!r}"
        # Of its own name or its package's; of another name, the module itself lacks something.
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise InputError(
                f"{what}: {one_line(error)}: the module must be installed or lie in a folder of "
                "PYTHONPATH"
            ) from error
        raise InputError(
            f"{what}: it was found, but raised {type(error).__name__}: {one_line(error)}"
            f"{_where(error)}"
        ) from error


def _where(error: BaseException) -> str:
    """Return the line of the imported module that failed, in words; nothing if none ran."""
    lines = traceback.extract_tb(error.__traceback__)[1:]  # the first is the one that imports
    run = [line for line in lines if "importlib" not in line.filename]
    return f" (line {run[0].lineno} of {run[0].filename})" if run else ""


def _make_python(name: str, architecture: Architecture) -> nn.Module:
    factory = _factory(name)
    try:
        with contained():
            torch.set_default_dtype(_dtypes.get(name.partition(":")[0], torch.get_default_dtype()))
            network = factory(**architecture.options)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"source: {architecture.source} called with the options "
            f"{dict(architecture.options)} raised {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"source: {architecture.source} must return a torch.nn.Module, it returned "
            f"{type(network).__name__}"
        )
    if any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        return copy.deepcopy(network)  # made in torch.inference_mode, it could not be trained
    return network


NETWORK_FAMILIES: dict[str, NetworkFamily] = {
    "dfshield": NetworkFamily(_make_dfshield, input_shape=(3, 32, 32)),
    "medmnist": NetworkFamily(
        _make_medmnist, input_shape=(3, 28, 28), normalisation=((0.5,), (0.5,))
    ),
    "pytorchcv": NetworkFamily(
        _make_pytorchcv,
        input_shape=(3, 32, 32),
        # One pair for CIFAR-10, CIFAR-100 and SVHN: they were trained with it.
        normalisation=((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        num_classes=lambda name: _PYTORCHCV_CLASSES.get(name.rpartition("_")[2]),
    ),
    "python": NetworkFamily(_make_python),
}
