"""Using a model without leaving a trace in its flags, whatever flags torch itself is in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dfshield.errors import InputError


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module of ``model`` its own training flag back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode with parameters that take no gradient; undo both afterwards.

    Every module gets its own training flag back and every parameter its own ``requires_grad``,
    also after an error.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with modes_kept(model):
        try:
            model.eval()
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, requires_grad in flags:
                parameter.requires_grad_(requires_grad)


@contextmanager
def gradients() -> Iterator[None]:
    """Let gradients be computed in the block, also where the caller has switched them off.

    Raises:
        InputError: inside of torch.inference_mode, which nothing within can lift.
    """
    if torch.is_inference_mode_enabled():
        raise InputError("this computes gradients: call it outside of torch.inference_mode()")
    with torch.enable_grad():
        yield
