"""What a classifier answers: float32 logits, whatever it computes in, and no probabilities."""

from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.errors import InputError, one_line
from dfshield.seeds import torch_generators

SAME_LOGITS = 1e-3
"""Two answers to the same image are the same if no logit moves by more than this share of the
largest logit in the batch: kernels that add up in another order stay far below, a layer that draws
random numbers does not."""

ONE = 1e-2
"""How far the sums of rows of probabilities may lie apart, as a share: as bfloat16 rounds."""

_CASTABLE = (torch.float16, torch.bfloat16, torch.float64)

PROBABILITIES = (
    "the model returns probabilities instead of logits: a softmax at the end flattens the "
    "gradient, and robustness is overstated"
)


def require_module(model: object, key: str = "model") -> None:
    """Check that a model is a module.

    Args:
        model: what was given for one.
        key: the argument that it was given for.

    Raises:
        InputError: if it is none, with what to do.
    """
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise InputError(f"{key}: {model.__name__} is a class, not a model: make one of it")
    raise InputError(
        f"{key}: must be a torch.nn.Module, but is a {type(model).__name__}: a function becomes "
        "one as the forward of a class; a saved classifier is loaded by dfshield.load(folder)"
    )


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the type of images that a network takes: that of its first floating-point weight."""
    for parameter in network.parameters():
        if parameter.is_floating_point():
            return parameter.dtype if parameter.dtype in _CASTABLE else torch.float32
    return torch.float32


def logits_in(answer: object, num_images: int) -> Float[Tensor, "n k"]:
    """Return the logits, (n, k), in what a model returned.

    A tensor is them; so is ``"logits"`` of a dict, ``.logits`` of an object (Hugging Face's
    outputs), and what a tuple or a list begins with, as where auxiliary logits follow. Sides of
    length 1 behind the classes go, (n, k, 1, 1), and one image gets back a row that was squeezed.

    Raises:
        InputError: if there is no such tensor.
    """
    found = answer
    if isinstance(found, Mapping):
        found = found.get("logits")
    elif not isinstance(found, Tensor) and hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise InputError(
            f"the model must return logits, but returned a {type(answer).__name__}: return a "
            'tensor, a dict or an object with "logits", or a tuple that begins with them'
        )
    logits = found
    if logits.ndim == 1 and num_images == 1:
        logits = logits.unsqueeze(0)
    while logits.ndim > 2 and logits.shape[-1] == 1:
        logits = logits.squeeze(-1)
    if logits.ndim != 2 or logits.shape[0] != num_images or logits.is_complex():
        raise InputError(
            f"the model must return logits of shape (images, classes), but for {num_images} images "
            f"returned {found.dtype} of shape {tuple(found.shape)}"
        )
    if logits.shape[1] < 2:
        raise InputError(
            "the model returns one number an image, not logits of two or more classes: of a binary "
            "classifier's z make torch.cat([-z, z], 1) / 2, the logits of the same probabilities"
        )
    return logits


def answer_of(network: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """Return a network's logits as it computes them, given the images in the type of its weights.

    Whatever its forward pass does to its input in place, ``x`` stays as it is; so does the mode of
    gradients.

    Raises:
        InputError: as `logits_in` does.
    """
    dtype = dtype_of(network)
    with_gradient = torch.is_grad_enabled()
    answer = network(x.to(dtype) if dtype != x.dtype else x.clone())
    if torch.is_grad_enabled() != with_gradient:
        torch.set_grad_enabled(with_gradient)
    return logits_in(answer, x.shape[0])


def float32_logits(network: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """Return a network's logits in float32.

    The one place where other precisions end: half, bfloat16 and double weights, and models that
    run under autocast. Double images through double weights stay double: somebody wants that.

    Raises:
        InputError: as `logits_in` does.
    """
    logits = answer_of(network, x)
    return (
        logits if dtype_of(network) == x.dtype == logits.dtype == torch.float64 else logits.float()
    )


def answer_to(
    network: nn.Module, images: Float[Tensor, "n c h w"], source: str
) -> Float[Tensor, "n k"]:
    """Return what a network of whatever origin answers to normalised images, in its mode.

    Raises:
        InputError: naming the source, if it fails or answers with what is no logits.
    """
    try:
        with torch.no_grad(), torch_generators(0, images.device):
            return float32_logits(network, images)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:
        raise InputError(
            f"{source} fails on images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error


def same_logits(
    first: Float[Tensor, "n k"], second: Float[Tensor, "n k"], *, tolerance: float = SAME_LOGITS
) -> bool:
    """Return whether two answers are the same but for rounding; equally broken ones are."""
    if first.shape != second.shape:
        return False
    finite = first.isfinite()
    if not torch.equal(finite, second.isfinite()):
        return False
    first, second = first[finite], second[finite]
    if not len(first):
        return True
    return bool((first - second).abs().max() <= tolerance * first.abs().max())


def are_probabilities(answers: Float[Tensor, "n k"]) -> bool:
    """Return whether answers are probabilities, or multiples of them such as percentages.

    That is: no value is negative, all rows have the same sum, and it is 1, or the rows differ (a
    constant answer of another sum is no distribution). Log-probabilities are logits.
    """
    answers = answers.detach().float()
    answers = answers[answers.isfinite().all(1)]
    if not len(answers) or answers.shape[1] < 2 or bool((answers < 0).any()):
        return False
    sums = answers.sum(1)
    total = float(sums.mean())
    if total <= 0 or float((sums - total).abs().max()) > ONE * total:
        return False
    differ = len(answers) > 1 and float((answers - answers[0]).abs().max()) > ONE * total
    return abs(total - 1) <= ONE or differ


class LogProbabilities(nn.Module):
    """The mend of a network that ends in a softmax which cannot be taken out: ``log p``.

    Returning the logits themselves is better: a softmax that has rounded to 0 or 1 is lost.

    Args:
        network: returns probabilities, (n, k).
    """

    smallest: Final = torch.finfo(torch.float32).tiny

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    # A plain annotation, here and in all networks: torch.jit.script reads no other.
    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of the probabilities (n, k): logits of the same softmax."""
        probabilities: Tensor = self.network(x).float()
        return probabilities.clamp_min(self.smallest).log()


def require_logits(answers: Float[Tensor, "n k"], source: str) -> None:
    """Check that answers are no probabilities.

    Raises:
        InputError: if they are, with what to do.
    """
    if are_probabilities(answers):
        raise InputError(
            f"{source} returns probabilities (rows that are not negative and have one sum), not "
            "logits: return the logits before its softmax, or give "
            "dfshield.classifiers.LogProbabilities(model) in its place"
        )
