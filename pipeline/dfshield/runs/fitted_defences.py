"""Fitting the networks of test-time defences on real images, and writing them to files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks import Attack, make_attack
from dfshield.classifiers import Classifier
from dfshield.datasets import ImageSet
from dfshield.defences import adapt_detector, train_detector, train_score
from dfshield.errors import InputError
from dfshield.runs.watching.events import Observer
from dfshield.seeds import RngStream, derived_seed
from dfshield.storage import Folder, require_absent, whole_file

_AT_ONCE = 256
"""Images that are attacked together."""


@dataclass(frozen=True)
class Shown:
    """A classifier and the real images whose logits are taken.

    Attributes:
        classifier: the classifier.
        images: of its size, channels and classes.
    """

    classifier: Classifier
    images: ImageSet


def fit_score(
    images: ImageSet,
    *,
    out: Folder,
    observer: Observer,
    width: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Train the score network of ``diffpure``; see `dfshield.defences.train_score`.

    Args:
        images: like those that it is to purify, but not these.
        out: the safetensors file to write; nothing may be there yet.
        observer: is shown the progress.
        width: of the network.
        epochs: over the images.
        batch_size: images in a step.
        learning_rate: Adam's.
        seed: of all draws.

    Returns:
        What the file says of itself.

    Raises:
        InputError: if ``out`` is there or cannot be written, or an option makes no sense.
    """
    require_absent(out)
    pixels, _ = images.tensors()
    observer.begin("Fitting the score network", total=epochs, done=0, unit="epochs")
    network = train_score(
        pixels.to(_device()),
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        on_epoch=lambda: observer.advance(1.0),
    )
    observer.end()
    told = {
        "defence": "diffpure",
        "images": _told(images),
        "width": width,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    return _written(out, network, told)


def fit_detector(
    source: Shown,
    target: Shown | None,
    *,
    out: Folder,
    observer: Observer,
    eps: float,
    norm: str,
    num_steps: int,
    seed: int,
) -> dict[str, Any]:
    """Train the detector of ``dad`` on clean and attacked logits, and adapt it, as published.

    See `dfshield.defences.train_detector` and `adapt_detector`.

    Args:
        source: a classifier of another data set, and images of that.
        target: the classifier to defend, and the test images, whose labels only direct the attack;
            None leaves the detector as it was trained, without that leak.
        out: the safetensors file to write; nothing may be there yet.
        observer: is shown the progress.
        eps: of PGD, on both.
        norm: of PGD.
        num_steps: of PGD.
        seed: of all draws.

    Returns:
        What the file says of itself.

    Raises:
        InputError: if ``out`` is there or cannot be written, or the numbers of classes differ.
    """
    require_absent(out)
    classes = source.classifier.num_classes
    if target is not None and target.classifier.num_classes != classes:
        raise InputError(
            f"--adapt-to: has {target.classifier.num_classes} classes, but --model {classes}: the "
            "detector takes the logits of both, so train it on a classifier of as many"
        )
    attack = make_attack("pgd", eps=eps, norm=norm, num_steps=num_steps)
    attacked = (source,) if target is None else (source, target)
    total = sum(len(each.images) for each in attacked)
    observer.begin("Attacking", total=total, done=0, unit="images")
    logits = [_logits(each, attack, seed, observer) for each in attacked]
    observer.end()
    detector = train_detector(*logits[0], seed=seed)
    if target is not None:
        detector = adapt_detector(detector, torch.cat(logits[1]), seed=seed)
    told = {
        "defence": "dad",
        "source": source.classifier.fingerprint(),
        "images": _told(source.images),
        "adapted_to": None if target is None else target.classifier.fingerprint(),
        "adapted_on": None if target is None else _told(target.images),
        "attack": attack.describe(),
        "seed": seed,
    }
    return _written(out, detector, told)


def _logits(
    shown: Shown, attack: Attack, seed: int, observer: Observer
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Return the logits of images, clean and attacked."""
    model = shown.classifier.to(_device()).eval()
    x, y = shown.images.tensors()
    found: list[tuple[Tensor, Tensor]] = []
    batches = zip(torch.split(x, _AT_ONCE), torch.split(y, _AT_ONCE), strict=True)
    for number, (images, labels) in enumerate(batches):
        images, labels = images.to(_device()), labels.to(_device())
        drawn = derived_seed(seed, RngStream.DEFENCE, 4, number)
        attacked = attack(model, images, labels, seed=drawn)
        with torch.no_grad():
            found.append((model(images), model(attacked)))
        observer.advance(float(len(images)))
    clean, adversarial = zip(*found, strict=True)
    return torch.cat(clean), torch.cat(adversarial)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _told(images: ImageSet) -> dict[str, Any]:
    return {
        "name": images.name,
        "split": images.split,
        "num_images": len(images),
        "fingerprint": images.fingerprint(),
    }


def _written(out: Folder, network: nn.Module, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights, which say how they were made, and return what they say."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(out) as path:
        # One entry: the format keeps no order of several.
        safetensors.torch.save_file(state, path, metadata={"dfshield": json.dumps(told)})
    return dict(told)
