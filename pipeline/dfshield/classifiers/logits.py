"""What a classifier answers: float32 logits, whatever it computes in, and no probabilities."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfshield.errors import InputError

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


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the type of images that a network takes: that of its first floating-point weight."""
    for parameter in network.parameters():
        if parameter.is_floating_point():
            return parameter.dtype if parameter.dtype in _CASTABLE else torch.float32
    return torch.float32


def float32_logits(network: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "..."]:
    """Return a network's answer in float32; it is given the images in the type of its weights.

    The one place where other precisions end: half, bfloat16 and double weights, and models that
    run under autocast. Double images through double weights stay double: somebody wants that.

    Raises:
        InputError: if the answer is no tensor.
    """
    dtype = dtype_of(network)
    answer = network(x.to(dtype) if dtype != x.dtype else x)
    if not isinstance(answer, Tensor):
        raise InputError(f"the model must return logits, but returned a {type(answer).__name__}")
    return answer if dtype == x.dtype == answer.dtype == torch.float64 else answer.float()


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

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logarithm of the probabilities, which are logits of the same softmax."""
        probabilities: Tensor = self.network(x).float()
        return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def require_logits(answers: Float[Tensor, "n k"], source: str) -> None:
    """Check that answers are no probabilities.

    Raises:
        InputError: if they are, with what to do.
    """
    if are_probabilities(answers):
        raise InputError(
            f"{source} returns probabilities (rows that are not negative and have one sum), not "
            "logits: return the logits before its softmax, or let the factory return "
            "dfshield.classifiers.LogProbabilities(model)"
        )
