"""BatchNorm for the fast paths: its input read once for its moments and once to be normalised."""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.library.custom_op("dfshield::computed_once", mutates_args=(), schema="(Tensor x) -> Tensor")
def computed_once(x: Tensor) -> Tensor:
    """Return the values of a small tensor, of which compiled code does not see the origin.

    A compiler that fuses loops would compute the values of a channel, divisions and roots among
    them, again for every pixel that they are used for. The gradient is treated alike.
    """
    return x.clone()


@computed_once.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _gradient(_: object, gradient: Tensor) -> Tensor:
    once: Tensor = computed_once(gradient)
    return once


computed_once.register_autograd(_gradient)


def shifted_sums(
    features: Float[Tensor, "gn c *size"], shift: Float[Tensor, " c"], *, groups: int = 1
) -> Float[Tensor, "2 g c"]:
    """Return the sums of d = x - shift and of d^2 over the channels of each group, from one pass.

    Args:
        features: of the groups one after the other, equally many each.
        shift: near the means; see `moments`.
        groups: how many.
    """
    shifted = features.float() - shift.view(_per_channel(features))
    shifted = shifted.flatten(2) if features.ndim > 2 else shifted[..., None]
    of_images = torch.stack([shifted.sum(2), shifted.square().sum(2)])
    return of_images.reshape(2, groups, -1, shifted.shape[1]).sum(2)


def moments(
    sums: Float[Tensor, "2 *c"], count: int
) -> tuple[Float[Tensor, "*c"], Float[Tensor, "*c"]]:
    """Return the mean less the shift, and the biased variance, of `shifted_sums` of ``count`` x.

    The mean is shift + E[d] and the variance E[d^2] - E[d]^2. In float32 that is safe where
    E[x^2] - E[x]^2 is not, as long as the shift is near the mean: a layer's running mean is, for
    images that resemble those it was trained on. Rounding may leave a variance below 0.
    """
    offset, square = sums / count
    return offset, square - offset.square()


class FusedBatchNorm(_BatchNorm):
    """A BatchNorm layer for the fast paths; `fuse` makes one of a layer.

    It normalises by what PyTorch's own would, whatever its flags. In train mode it moves no buffer:
    if it tracks statistics, ``record`` gets the batch's mean and unbiased variance. In eval mode
    its gradients reach weight and bias, as those of a layer that is frozen in training must, until
    `hold`.
    """

    record: Callable[[Tensor, Tensor], None] | None = None
    scale: Tensor
    _held: bool = False

    @torch.no_grad()
    def hold(self, held: bool = True) -> None:
        """Normalise, in eval mode, by weight and running variance as they are now; or no longer.

        Their ``scale`` is computed here, once for all passes of an attack. No gradient reaches the
        weight through it.
        """
        self._held = held
        if held:
            assert self.running_var is not None
            self.scale.copy_(self._scale(self.running_var))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise as BatchNorm does, in float32; the result is of the features' dtype."""
        assert self.running_mean is not None
        assert self.running_var is not None
        shape = _per_channel(features)
        if self.training:
            mean, scale = self._batch_mean_and_scale(features)
        elif self._held:
            mean, scale = self.running_mean, self.scale
        else:
            mean, scale = self.running_mean, computed_once(self._scale(self.running_var))
        normalised = (features.float() - mean.view(shape)) * scale.view(shape)
        if self.bias is not None:
            normalised = normalised + self.bias.view(shape)
        rounded: Tensor = normalised.to(features.dtype)
        return rounded

    def _batch_mean_and_scale(self, features: Tensor) -> Float[Tensor, "2 c"]:
        assert self.running_mean is not None
        count = features.numel() // features.shape[1]
        sums = computed_once(shifted_sums(features, self.running_mean)[:, 0])
        offset, variance = moments(sums, count)
        mean, variance = self.running_mean + offset, variance.clamp_min(0.0)
        unbiased = variance * (count / max(1, count - 1))
        if self.record is not None and self.track_running_stats:
            self.record(mean.detach(), unbiased.detach())
        once: Tensor = computed_once(torch.stack([mean, self._scale(variance)]))
        return once

    def _scale(self, variance: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        scale = torch.rsqrt(variance + self.eps)
        return scale if self.weight is None else scale * self.weight


def fusible(layer: _BatchNorm) -> bool:
    """Return whether a layer is plain BatchNorm, with no forward pass of its own."""
    plain = type(layer).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    return plain and "forward" not in vars(layer)


def fuse(layer: _BatchNorm) -> FusedBatchNorm:
    """Let a `fusible` layer compute as `FusedBatchNorm` does, with the tensors that it has."""
    layer.__class__ = _fused_class(type(layer))  # type: ignore[arg-type]
    assert isinstance(layer, FusedBatchNorm)
    assert layer.running_var is not None
    layer.register_buffer("scale", torch.empty_like(layer.running_var), persistent=False)
    return layer


@cache
def _fused_class(cls: type[_BatchNorm]) -> type[FusedBatchNorm]:
    """Return the one fused class of a class of layers.

    One, since compiled code is found again by the classes of a model's layers: with a class of its
    own per layer, every model of a process would be compiled anew.
    """
    return type(f"Fused{cls.__name__}", (FusedBatchNorm, cls), {})


def _per_channel(features: Tensor) -> list[int]:
    return [1, -1] + [1] * (features.ndim - 2)
