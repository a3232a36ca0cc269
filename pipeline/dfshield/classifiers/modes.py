"""Using a model without leaving a trace in its flags."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
