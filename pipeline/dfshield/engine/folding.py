"""BatchNorm of frozen classifiers, folded into the convolutions before it."""

import copy
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from dfshield.classifiers import (
    Classifier,
    answer_of,
    batchnorm_layers,
    frozen,
    probe_images,
    same_logits,
)
from dfshield.engine.fused_batchnorm import fusible
from dfshield.seeds import torch_generators_kept

ROUNDING = 1e-6
"""How far rounding may move the weights of a folded channel, as a share of its largest one. One
rounding to float32 moves them by 6e-8, to half precision by 5e-4 or more."""
EXACT = 1e-10
"""How far the folded network's logits may lie off in float64, as a share of the largest one."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batchnorm(classifier: Classifier) -> tuple[str, ...]:
    """Fold BatchNorm layers into the convolutions before them, in place; return their names.

    A convolution with weights W and bias b, and BatchNorm with weight γ, bias β, mean μ and
    variance v, compute in eval mode what one convolution does::

        W' = s W,   b' = s (b - μ) + β,   s = γ / sqrt(v + ε)

    (Jacob et al., 2018, section 3.2.) W' and b' are computed in float64 and rounded once. They are
    new tensors: what shares weights with the classifier does not change. Whoever trains the
    classifier, or moves its statistics, must fold anew.

    A layer stays as it is where it does not follow a convolution that nothing else uses, where it
    or the convolution has a forward pass or hooks of its own, and where rounding W' or b' costs
    more than `ROUNDING`: weights in half precision, or that leave the range of float32. No layer is
    folded where the network's forward pass cannot be traced, or where in float64 the folded network
    does not answer what the network does, within `EXACT`.

    Args:
        classifier: in eval mode.
    """
    network = classifier.network
    pairs = {norm: conv for norm, conv in _pairs(network).items() if _precise(network, norm, conv)}
    if not pairs or not _same_function(classifier, pairs):
        return ()
    for norm, conv in pairs.items():
        _fold(network, norm, conv)
    return tuple(pairs)


def _pairs(network: nn.Module) -> dict[str, str]:
    """Return the BatchNorm layers that can be folded, and the convolution before each, by name."""
    try:
        with torch_generators_kept(torch.device("cpu")):
            graph = torch.fx.symbolic_trace(network).graph
    except Exception:  # noqa: BLE001  whatever the code of a user's forward pass does to a tracer
        return {}
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    foldable = {name for name, layer in batchnorm_layers(network) if _plain(layer)}
    pairs = {}
    for node in calls:
        if node.target not in foldable or len(node.args) != 1 or node.kwargs:
            continue
        before = node.args[0]
        if (
            isinstance(before, torch.fx.Node)
            and before.op == "call_module"
            and _plain(network.get_submodule(str(before.target)))
            and len(before.users) == times[node.target] == times[before.target] == 1
        ):
            pairs[str(node.target)] = str(before.target)
    return pairs


def _plain(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution or BatchNorm as torch has it, and nothing more."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    if any(hooks) or is_parametrized(layer) or "forward" in vars(layer):
        return False
    if isinstance(layer, _ConvNd):
        return any(type(layer).forward is convolution.forward for convolution in _CONVOLUTIONS)
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and fusible(layer)


def _folded(
    network: nn.Module, norm: str, conv: str
) -> tuple[Float[Tensor, "out in *size"], Float[Tensor, " out"]]:
    """Return W' and b' in float64."""
    before, layer = network.get_submodule(conv), network.get_submodule(norm)
    assert isinstance(before, _ConvNd)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    weight, bias, mean, variance, scale, shift = (
        None if tensor is None else tensor.detach().double()
        for tensor in (
            before.weight,
            before.bias,
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
        )
    )
    assert weight is not None
    assert mean is not None
    assert variance is not None
    folded, moved = fuse_conv_bn_weights(weight, bias, mean, variance, layer.eps, scale, shift)
    return folded.detach(), moved.detach()


def _precise(network: nn.Module, norm: str, conv: str) -> bool:
    """Return whether W' and b' survive rounding to the type of the convolution's weights."""
    dtype = network.get_parameter(f"{conv}.weight").dtype
    for exact in _folded(network, norm, conv):
        of_channel = exact.flatten(1) if exact.ndim > 1 else exact[:, None]
        error = (of_channel.to(dtype).double() - of_channel).abs().amax(1)
        if not bool((error <= ROUNDING * of_channel.abs().amax(1)).all()):
            return False
    return True


def _fold(network: nn.Module, norm: str, conv: str) -> None:
    before = network.get_submodule(conv)
    weight, bias = _folded(network, norm, conv)
    dtype = network.get_parameter(f"{conv}.weight").dtype
    before.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    before.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    network.set_submodule(norm, nn.Identity())


def _same_function(classifier: Classifier, pairs: dict[str, str]) -> bool:
    """Return whether folding the pairs leaves the network's answers as they are, in float64.

    They are not where code uses a layer in a way that tracing does not show, and where the network
    draws random numbers.
    """
    device = classifier.mean.device
    images = classifier.normalise(probe_images(classifier.input_shape).to(device)).double()
    network = copy.deepcopy(classifier.network).double()
    folded = copy.deepcopy(network)
    for norm, conv in pairs.items():
        _fold(folded, norm, conv)
    try:
        with torch.no_grad(), torch_generators_kept(device), frozen(network), frozen(folded):
            first, again, other = (answer_of(n, images) for n in (network, network, folded))
    except Exception:  # noqa: BLE001  as a user's network fails in float64 or without its layer
        return False
    return same_logits(first, again, tolerance=EXACT) and same_logits(first, other, tolerance=EXACT)
