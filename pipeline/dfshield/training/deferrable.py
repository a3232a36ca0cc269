"""Whether BatchNorm's statistics can be deferred in a model of whatever origin."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.classifiers import answer_of, batchnorm_layers
from dfshield.errors import InputError
from dfshield.seeds import torch_generators
from dfshield.training.batchnorm import DeferredBatchNorm

_REMEDY = (
    "in training, the running statistics must be moved by calling the layer alone, at its momentum "
    "(a layer that is kept in eval mode by the model's train() stays frozen)"
)


@torch.no_grad()
def require_deferrable(model: nn.Module, images: Float[Tensor, "n c h w"]) -> None:
    """Check that a train-mode pass under `DeferredBatchNorm` is the model's ordinary one.

    While it lasts the running statistics must stand still, and once they are applied, logits and
    buffers must be those of an ordinary pass. A model is not judged by what ordinary passes under
    one seed differ in, nor one that has no train-mode pass of these images. It is not touched.

    Raises:
        InputError: naming the layer, if running statistics are moved, or read, by another way than
            calling the layer.
    """
    modes = [module.training for module in model.modules()]
    copy.deepcopy(model).train(not model.training)
    if [module.training for module in model.modules()] != modes:
        raise InputError(
            "train() of a copy of the classifier changes the original: the student is a copy, so "
            "train() must be a method of the network's class, or be bound to the network"
        )
    try:
        plain, again = (_outcome(copy.deepcopy(model), images) for _ in range(2))
    except Exception:  # noqa: BLE001  a forward pass may fail in any way, deferred or not
        return
    try:
        deferred = _deferred_outcome(copy.deepcopy(model), images)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001
        raise InputError(
            f"the classifier's pass in train mode fails while its BatchNorm buffers are kept still "
            f"({type(error).__name__}: {error}): {_REMEDY}"
        ) from None
    if not all(_close(again[name], value) for name, value in plain.items()):
        return
    for name, value in plain.items():
        if not _close(deferred[name], value):
            raise InputError(
                f"a pass in train mode with deferred BatchNorm statistics gives other values of "
                f"{name} than an ordinary one: {_REMEDY}"
            )


def _outcome(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what a train-mode pass gives: buffers, those of counts apart, and logits."""
    model.train()
    with torch_generators(0, images.device):
        logits = answer_of(model, images)
    # Which number of passes has been counted is used by a cumulative average alone.
    counts = {
        f"{name}.num_batches_tracked"
        for name, layer in batchnorm_layers(model)
        if layer.momentum is not None
    }
    outcome = {name: buffer for name, buffer in model.named_buffers() if name not in counts}
    return {"the logits": logits, **outcome}


def _deferred_outcome(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    deferred = DeferredBatchNorm(model)
    before = _running_statistics(copy.deepcopy(model))
    with deferred.recording():
        outcome = _outcome(model, images)
    for name, buffer in _running_statistics(model).items():
        if not torch.equal(buffer, before[name]):
            raise InputError(
                f"{name} is moved in train mode by something else than its BatchNorm layer: "
                f"{_REMEDY}"
            )
    deferred.apply(deferred.take())
    return {**outcome, **dict(model.named_buffers())}


def _running_statistics(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": buffer
        for name, layer in batchnorm_layers(model)
        for key, buffer in layer.named_buffers(recurse=False)
        if key in ("running_mean", "running_var")
    }


def _close(value: Tensor, expected: Tensor) -> bool:
    if value.shape != expected.shape or value.dtype != expected.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(value, expected)
    largest = expected[expected.isfinite()].abs().max() if expected.isfinite().any() else 0.0
    tolerance = 1e-5 * float(largest)
    return torch.allclose(value, expected, rtol=1e-5, atol=tolerance, equal_nan=True)
