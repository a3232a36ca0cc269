"""Penultimate features of any classifier: what goes into the layer that makes its logits."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.attacks.models import InFloat32, logits_of
from dfshield.checks import nearest
from dfshield.errors import InputError

HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def find_head(model: nn.Module, image: Float[Tensor, "1 c h w"], layer: str | None) -> nn.Module:
    """Return the layer whose input the penultimate features are.

    Without a name it is the last linear or convolutional layer, in the order of the forward pass
    and not of their definition, that gives as many channels as there are classes.

    Args:
        model: the classifier.
        image: one that it takes.
        layer: the dotted name of the layer, or None.

    Raises:
        InputError: for a name that the model does not have; where no layer is found.
    """
    named = model.model if isinstance(model, InFloat32) else model
    modules: dict[str, nn.Module] = dict(named.named_modules())
    if layer is not None:
        if not layer or layer not in modules:
            names = [name for name in modules if name]
            raise InputError(f"layer: the model has no {layer!r}: {nearest(layer, names)}")
        return modules[layer]
    called: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        called.append((module, output.shape[1]))

    hooks = [
        module.register_forward_hook(note)
        for module in modules.values()
        if isinstance(module, HEADS)
    ]
    try:
        num_classes = logits_of(model, image).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    heads = [module for module, channels in called if channels == num_classes]
    if not heads:
        raise InputError(
            "layer: no linear or convolutional layer of the model gives one value per class: name "
            "the layer whose input are the penultimate features"
        )
    return heads[-1]


def feature_map(
    model: nn.Module, head: nn.Module
) -> Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n d"]]:
    """Return the function from images to the flattened input of ``head``.

    Raises:
        InputError: when it is called and the forward pass does not reach ``head``.
    """

    def features(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        seen: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        hook = head.register_forward_pre_hook(note)
        try:
            model(x)
        finally:
            hook.remove()
        if not seen:
            raise InputError("layer: the model's forward pass does not use it; name another")
        return seen[-1].reshape(len(x), -1)

    return features


def require_gradient(features: Tensor) -> None:
    """Check that features carry a gradient with respect to the images.

    Raises:
        InputError: if they do not.
    """
    if not features.requires_grad:
        raise InputError(
            "layer: its input carries no gradient with respect to the images: name a layer behind "
            "a differentiable part of the model"
        )


def distance_and_gradient(
    features: Callable[[Tensor], Tensor],
    image: Float[Tensor, "1 c h w"],
    goal: Float[Tensor, "1 d"],
) -> tuple[float, Float[Tensor, "1 c h w"]]:
    """Return ``||phi(image) - goal||^2`` and its gradient with respect to the image.

    Raises:
        InputError: if the features carry no gradient.
    """
    image = image.detach().requires_grad_()
    with torch.enable_grad():
        found = features(image)
        require_gradient(found)
        distance = ((found - goal) ** 2).sum()
    (gradient,) = torch.autograd.grad(distance, [image])
    return float(distance.detach()), gradient
