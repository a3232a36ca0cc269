"""What is hardened: building, loading, normalising, fingerprinting and saving classifiers."""

from dfshield.classifiers.architecture import Architecture
from dfshield.classifiers.base import (
    Classifier,
    batchnorm_layers,
    load_state,
)
from dfshield.classifiers.behaviour import probe_images
from dfshield.classifiers.cifar_resnet import CifarResNet
from dfshield.classifiers.hardenable import (
    require_batchnorm,
    require_differentiable,
    require_float32,
    require_hardenable,
    unseen_batchnorm,
)
from dfshield.classifiers.logits import (
    PROBABILITIES,
    LogProbabilities,
    answer_of,
    are_probabilities,
    float32_logits,
    require_logits,
    require_module,
    same_logits,
)
from dfshield.classifiers.medmnist_resnet import MedmnistResNet
from dfshield.classifiers.modes import frozen, gradients, modes_kept
from dfshield.classifiers.network_families import NETWORK_FAMILIES
from dfshield.classifiers.saving import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Description,
    describe,
    load,
    save,
    serialised,
)
from dfshield.classifiers.sources import build
from dfshield.classifiers.weights import read_weights

__all__ = [
    "CONFIG_FILE",
    "NETWORK_FAMILIES",
    "PROBABILITIES",
    "WEIGHTS_FILE",
    "Architecture",
    "CifarResNet",
    "Classifier",
    "Description",
    "LogProbabilities",
    "MedmnistResNet",
    "answer_of",
    "are_probabilities",
    "batchnorm_layers",
    "build",
    "describe",
    "float32_logits",
    "frozen",
    "gradients",
    "load",
    "load_state",
    "modes_kept",
    "probe_images",
    "read_weights",
    "require_batchnorm",
    "require_differentiable",
    "require_float32",
    "require_hardenable",
    "require_logits",
    "require_module",
    "same_logits",
    "save",
    "serialised",
    "unseen_batchnorm",
]
