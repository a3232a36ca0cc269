"""The contract of a classifier: images in [0, 1] go in, logits come out."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.canonical import canonical_json
from dfshield.classifiers.architecture import Architecture, image_shape
from dfshield.classifiers.behaviour import Behaviour, observe, probe_images
from dfshield.classifiers.logits import answer_to, float32_logits, require_module
from dfshield.classifiers.modes import frozen
from dfshield.classifiers.normalisation import per_channel, require_normalisation, unnormalised
from dfshield.errors import InputError
from dfshield.pixels import require_images

WRAPPED = "wrap:"
"""How the source of a classifier begins that `Classifier.wrap` made."""


class Classifier(nn.Module):
    """A network together with its normalisation and with what its inputs and outputs mean.

    ``logits = network((x - mean) / std)`` for images x in [0, 1]. `wrap` makes one of any module.

    A classifier is an ordinary module: torch.export and torch.jit.trace take it, and so does
    torch.jit.script where it takes its network (of float32 weights, returning a tensor).

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
    __jit_unused_properties__: ClassVar = ["input_shape", "num_classes", "class_names"]

    def __init__(
        self,
        network: nn.Module,
        *,
        architecture: Architecture,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        require_module(network, "network")
        self.network = network
        self.architecture = architecture
        self._kept: tuple[str, Behaviour | None] | None = None
        channels = architecture.input_shape[0]
        for key, given in (("mean", mean), ("std", std)):
            values = per_channel(key, given, channels)
            self.register_buffer(
                key, torch.tensor(values, dtype=torch.float32).view(1, channels, 1, 1)
            )
            if key == "std" and min(values) <= 0:
                raise InputError(f"std: {values} must be positive")

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        input_shape: Sequence[int] | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> "Classifier":
        """Return a classifier around a module of any origin, with the weights that it has.

        The module is `network`, not a copy: what trains the classifier trains the module. It is
        not changed here, and stays in its mode and on its device, where mean and std go as well.
        Nothing says how to build it again, so `dfshield.classifiers.save` refuses the classifier;
        `dfshield.classifiers.build` makes one of a factory that can be saved.

        Args:
            module: takes normalised images (n, c, h, w), returns logits (n, k).
            input_shape: (c, h, w) of one image.
            num_classes: k; left out, as many as the module has logits.
            class_names: one per class; "0", "1", ... when left out.
            mean: c numbers, on the [0, 1] scale of the images. Left out together with `std`, the
                module is given images in [0, 1] as they are, which `assumption` then says.
            std: c positive numbers.

        Raises:
            InputError: for what is no module, a shape that its forward does not take, an answer
                that is no logits of these classes, or a normalisation that cannot be.
        """
        require_module(module, "module")
        if isinstance(module, Classifier):
            raise InputError("module: is a Classifier already, with a normalisation of its own")
        source = f"{WRAPPED}{type(module).__module__}.{type(module).__qualname__}"
        shape = image_shape(input_shape)
        if (mean is None) != (std is None):
            raise InputError("mean, std: give both or neither")
        for key, values in (("mean", mean), ("std", std)):
            if values is not None:
                require_normalisation(key, per_channel(key, values, shape[0]))
        device = next((t.device for t in (*module.parameters(), *module.buffers())), None)
        with frozen(module):
            found = answer_to(module, torch.zeros(2, *shape, device=device), source).shape[1]
        if num_classes not in (None, found):
            raise InputError(f"num_classes: {num_classes}, but {source} returns {found} logits")
        classifier = cls(
            module,
            architecture=Architecture(source, {}, shape, found, tuple(class_names or ())),
            mean=[0.0] * shape[0] if mean is None else mean,
            std=[1.0] * shape[0] if std is None else std,
        )
        classifier.mean, classifier.std = classifier.mean.to(device), classifier.std.to(device)
        classifier.training = module.training
        if mean is None:
            classifier.assumption = unnormalised(source)
        return classifier

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

    # A plain annotation, here and in all networks: torch.jit.script reads no other.
    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, k) of images (n, c, h, w) in [0, 1].

        They are float32 whatever the network computes in.

        Raises:
            InputError: for images of another shape than `input_shape`.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            scripted: Tensor = self.network((x - self.mean) / self.std)
            return scripted.float()
        require_images(x)
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

        It is `digest`; of a ``python:`` source or a wrapped module, whose code is anybody's, with
        the `behaviour` that it had when it was saved, or has. Independent of the device and of
        train or eval mode.
        """
        return self.identity()[0]

    def identity(self) -> tuple[str, Behaviour | None]:
        """Return the fingerprint and the behaviour that is a part of it, if any is."""
        digest = self.digest()
        if not self.architecture.source.startswith(("python:", WRAPPED)):
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
    return canonical_json(value, ascii_only=True).encode()


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
