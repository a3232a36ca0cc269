"""GradRefine: an update from what the gradients of several mini-batches agree on."""

import math
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dfshield.errors import DfshieldError, InputError
from dfshield.training.group import SingleWorker, WorkerGroup


class GradRefine:
    """Equations 9 and 10, over any torch optimizer.

    With the gradients ``g_1 ... g_K`` of K mini-batches at the same weights, for every scalar
    parameter::

        A  = (1/K) sum_b sign(g_b)                              (eq. 9)
        g* = [|A| >= tau] sum_b [A g_b > 0] g_b                 (eq. 10)

    and one optimizer step is taken with ``g*``. It is a sum, not a mean: that is the paper's
    learning rate growing linearly with K. Only three accumulators are kept: the sum of signs (whole
    numbers) and the sums of positive and of negative gradients, all in one float64 buffer of 24
    bytes per parameter. A parameter passes when ``|sum of signs| >= ceil(tau K)`` in exact
    arithmetic. K is the number of mini-batches accumulated since the last step, so a last, smaller
    group has its own threshold. K = 1 is plain training; tau = 0 still drops the minority's
    gradients.

    Several workers, each with the same weights, may accumulate different mini-batches of a group;
    `step` adds up their buffers in one all-reduce and then does the same on each of them. K counts
    the mini-batches of all; a worker may have none. Sums of float32 gradients whose magnitudes lie
    within a factor of ``2**29 / K`` are exact in float64, so it does not matter who computed what.
    Beyond that, the order of summation can change the last bit of a float64 sum, which the rounding
    to float32 all but always hides.

    Usage::

        refine = GradRefine(optimizer, tau=0.5)
        for x, y in group:                # weights do not change inside a group
            loss(model(x), y).backward()
            refine.accumulate()
        agreement_rate = refine.step()

    Args:
        optimizer: steps on the refined gradients; its learning rate is left alone.
        tau: agreement threshold in [0, 1].
        group: the workers whose mini-batches are refined together; None is this one alone.

    Raises:
        InputError: if ``tau`` lies outside [0, 1], or there is no optimizer.
    """

    def __init__(
        self, optimizer: Optimizer, *, tau: float = 0.5, group: WorkerGroup | None = None
    ) -> None:
        if not isinstance(tau, int | float) or not 0 <= tau <= 1:
            raise InputError(f"tau: {tau!r} must be a number in [0, 1]")
        if not isinstance(optimizer, Optimizer):
            raise InputError(
                f"optimizer: must be a torch.optim.Optimizer, but is a {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.tau = tau
        self.group: WorkerGroup = group or SingleWorker()
        self.num_accumulated = 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._has_gradient = [False] * len(self._parameters)
        size = sum(p.numel() for p in self._parameters)
        sizes = [size, size, size, 1 + len(self._parameters)]
        device = self._parameters[0].device
        self._buffer = torch.zeros(sum(sizes), dtype=torch.float64, device=device)
        self._sums_of_signs, self._positive, self._negative, self._counts = torch.split(
            self._buffer, sizes
        )
        # Adding int32 is faster than adding float64; the numbers take half of their final place.
        self._signs = self._sums_of_signs.view(torch.int32)[:size]

    @torch.no_grad()
    def accumulate(self) -> None:
        """Add what ``backward`` left on the parameters as one mini-batch's gradient; clear it."""
        gradient = torch.cat([self._take_gradient(i, p) for i, p in enumerate(self._parameters)])
        self._signs += torch.sign(gradient).to(torch.int32)
        self._positive += gradient.clamp(min=0)
        self._negative += gradient.clamp(max=0)
        self.num_accumulated += 1

    def _take_gradient(self, position: int, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad
        if gradient is None:
            return torch.zeros_like(parameter).reshape(-1)
        self._has_gradient[position] = True
        parameter.grad = None
        return gradient.reshape(-1)

    @torch.no_grad()
    def step(self) -> float:
        """Take one optimizer step with the refined gradient and forget the accumulated ones.

        Returns:
            The agreement rate: the share of parameters whose gradient passed the threshold.

        Raises:
            InputError: if none was accumulated.
            DfshieldError: if a gradient of any worker is not finite; the weights are then
                unchanged, and the gradients forgotten.
        """
        try:
            return self._step()
        finally:
            self.reset()

    def _step(self) -> float:
        if self.group.size > 1:
            self._share()
        if self.num_accumulated == 0:
            raise InputError("GradRefine.step(): there is no gradient: call accumulate() before it")
        threshold = math.ceil(Fraction(str(self.tau)) * self.num_accumulated)
        passes = self._signs.abs() >= threshold
        majority = torch.where(self._signs > 0, self._positive, self._negative)
        refined = torch.where(passes & (self._signs != 0), majority, 0.0)
        if not torch.isfinite(self._positive.sum() + self._negative.sum()):
            raise DfshieldError(
                "the training diverged: a gradient is not finite; lower training.learning_rate"
            )
        self._give_gradients(refined)
        self.optimizer.step()
        return passes.double().mean().item()

    def _share(self) -> None:
        """Replace this worker's accumulators and counts by those of the whole group."""
        counts = [self.num_accumulated, *self._has_gradient]
        self._counts.copy_(torch.tensor(counts, dtype=torch.float64))
        self._sums_of_signs.copy_(self._signs.clone())
        self.group.all_reduce(self._buffer)
        self._signs.copy_(self._sums_of_signs.to(torch.int32))
        num_accumulated, *with_gradient = self._counts.tolist()
        self.num_accumulated = int(num_accumulated)
        self._has_gradient = [count > 0 for count in with_gradient]

    def _give_gradients(self, refined: Tensor) -> None:
        sizes = [p.numel() for p in self._parameters]
        pieces = torch.split(refined, sizes)
        for parameter, piece, has in zip(self._parameters, pieces, self._has_gradient, strict=True):
            if has:
                parameter.grad = piece.reshape(parameter.shape).to(parameter.dtype)

    def reset(self) -> None:
        """Forget the gradients that were accumulated since the last step."""
        self.num_accumulated = 0
        self._has_gradient = [False] * len(self._parameters)
        self._buffer.zero_()
        self.optimizer.zero_grad(set_to_none=True)
