"""What is hardened: building, loading, normalising, fingerprinting and saving classifiers."""

from dfshield.classifiers.base import (
    Architecture,
    Classifier,
    batchnorm_layers,
    load_state,
    require_batchnorm,
)
from dfshield.classifiers.cifar_resnet import CifarResNet
from dfshield.classifiers.families import FAMILIES
from dfshield.classifiers.medmnist_resnet import MedmnistResNet
from dfshield.classifiers.saving import CONFIG_FILE, WEIGHTS_FILE, load, save, serialised
from dfshield.classifiers.sources import build

__all__ = [
    "CONFIG_FILE",
    "FAMILIES",
    "WEIGHTS_FILE",
    "Architecture",
    "CifarResNet",
    "Classifier",
    "MedmnistResNet",
    "batchnorm_layers",
    "build",
    "load",
    "load_state",
    "require_batchnorm",
    "save",
    "serialised",
]
