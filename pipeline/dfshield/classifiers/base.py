"""The contract of a classifier: images in [0, 1] go in, logits come out."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers.behaviour import Behaviour, observe, probe_images
from dfshield.classifiers.logits import float32_logits
from dfshield.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """How to build a classifier's network again, without its weights.

    Attributes:
        source: ``family:name``, for example ``"dfshield:resnet20"``.
        options: what else the family takes, as JSON values.
        input_shape: (c, h, w) of one image.
        num_classes: number of classes k, at least 2.
        class_names: k names, in the order of the logits; empty means "0", "1", ...

    Raises:
        InputError: for a shape, a class count or class names that cannot be.
    """

    source: str
    options: Mapping[str, object]
    input_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if min(self.input_shape) < 1:
            raise InputError(
                f"input_shape: {self.input_shape} must be (channels, height, width), each from 1"
            )
        if self.num_classes < 2:
            raise InputError(f"num_classes: {self.num_classes} must be at least 2")
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.num_classes))))
        if len(self.class_names) != self.num_classes:
            raise InputError(
                f"class_names: {len(self.class_names)} names, but num_classes is {self.num_classes}"
            )
        try:
            # Through JSON and back, so that what was saved equals what was built (tuples, keys).
            options = json.loads(json.dumps(dict(self.options), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"options: must hold JSON values only: {error}") from None
        object.__setattr__(self, "options", options)

    def to_json(self) -> dict[str, object]:
        """Return a dict of JSON values from which `from_json` makes an equal object."""
        return {
            "source": self.source,
            "options": dict(self.options),
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> "Architecture":
        """Return the architecture that `to_json` described.

        Raises:
            InputError: for a missing key or a value of the wrong kind.
        """
        match values:
            case {
                "source": str(source),
                "options": dict(options),
                "input_shape": [int(c), int(h), int(w)],
                "num_classes": int(num_classes),
                "class_names": list(names),
            } if all(isinstance(name, str) for name in names):
                return cls(source, options, (c, h, w), num_classes, tuple(names))
        raise InputError(
            "architecture: needs source (text), options (object), input_shape [c, h, w], "
            "num_classes (integer) and class_names (list of texts)"
        )


class Classifier(nn.Module):
    """A network together with its normalisation and with what its inputs and outputs mean.

    ``logits = network((x - mean) / std)`` for images x in [0, 1].

    Attributes:
        network: takes normalised images (n, c, h, w), returns logits (n, k).
        mean: per-channel mean, a buffer (1, c, 1, 1).
        std: per-channel standard deviation, a buffer (1, c, 1, 1).
        architecture: how to build the network again.
        assumption: what was assumed about its normalisation when it was built, in words.

    Args:
        network: see above.
        architecture: gives input shape, class count and class names.
        mean: c numbers, on the [0, 1] scale of the images.
        std: c positive numbers.

    Raises:
        InputError: if mean or std do not fit the number of channels.
    """

    mean: Tensor
    std: Tensor
    assumption: str = ""

    def __init__(
        self,
        network: nn.Module,
        *,
        architecture: Architecture,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        self.architecture = architecture
        self._kept: tuple[str, Behaviour | None] | None = None
        channels = architecture.input_shape[0]
        for key, values in (("mean", mean), ("std", std)):
            if len(values) != channels or not all(math.isfinite(value) for value in values):
                raise InputError(
                    f"{key}: {list(values)} must be {channels} finite numbers, one per channel"
                )
            self.register_buffer(
                key, torch.tensor(values, dtype=torch.float32).view(1, channels, 1, 1)
            )
        if min(std) <= 0:
            raise InputError(f"std: {list(std)} must be positive")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image."""
        return self.architecture.input_shape

    @property
    def num_classes(self) -> int:
        """Number of classes k."""
        return self.architecture.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.architecture.class_names

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1], in float32 whatever the network computes in.

        Raises:
            InputError: for images of another shape than `input_shape`.
        """
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(
                f"images of shape {tuple(x.shape[1:])} given to a classifier of {self.input_shape} "
                "images (channels, height, width)"
            )
        return float32_logits(self.network, self.normalise(x))

    def normalise(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return ``(x - mean) / std``: from [0, 1] to the space the network works in."""
        return (x - self.mean) / self.std

    def denormalise(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return ``x * std + mean``, the inverse of `normalise`. Does not clip to [0, 1]."""
        return x * self.std + self.mean

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of all weights and buffers on the CPU, sorted by name.

        Raises:
            InputError: if the network keeps state that is not a tensor.
        """
        copies = {}
        for name, value in sorted(self.state_dict().items()):
            if not isinstance(value, Tensor):
                raise InputError(
                    f"{self.architecture.source}: its state {name!r} is no tensor, so it can be "
                    "neither saved nor fingerprinted"
                )
            # A copy each: weights tied within the network must not share memory in safetensors.
            copies[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return copies

    def fingerprint(self) -> str:
        """Return the SHA-256, in hexadecimal, that tells this classifier from all others.

        It is `digest`; of a ``python:`` source, whose code is anybody's, with the `behaviour` that
        it had when it was saved. Independent of the device and of train or eval mode.
        """
        return self.identity()[0]

    def identity(self) -> tuple[str, Behaviour | None]:
        """Return the fingerprint and the behaviour that is a part of it, if any is."""
        digest = self.digest()
        if not self.architecture.source.startswith("python:"):
            return digest, None
        known = self._kept is not None and self._kept[0] == digest
        behaviour = self._kept[1] if self._kept is not None and known else self.behaviour()
        if behaviour is None:
            return digest, None
        return hashlib.sha256(f"{digest} {behaviour.digest()}".encode()).hexdigest(), behaviour

    def behaviour(self) -> Behaviour:
        """Return what the network answers to the probe images, in eval and in train mode."""
        images = probe_images(self.input_shape)
        return observe(self.network, (images - self.mean.cpu()) / self.std.cpu())

    def keep_behaviour(self, behaviour: Behaviour | None) -> None:
        """Let this be the behaviour as long as architecture, weights and buffers stay.

        None is for what was saved without one: the fingerprint is then `digest`.
        """
        self._kept = (self.digest(), behaviour)

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, over architecture, weights and buffers."""
        digest = hashlib.sha256(_canonical(self.architecture.to_json()))
        for name, tensor in self.tensors().items():
            digest.update(_canonical([name, str(tensor.dtype), list(tensor.shape)]))
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def batchnorm_layers(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """Return name and layer of every BatchNorm with running statistics, in module order."""
    return [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what the module's `state_dict` gave, though a copy has lost torch's marks of versions.

    Without them torch takes a BatchNorm layer that counts no batches for one of an old file, and
    misses the count.
    """
    marked = module.state_dict()
    marked.clear()
    marked.update(state)
    module.load_state_dict(marked)
