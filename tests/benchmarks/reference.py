"""The published recipe at its own cost: what the speed of dfshield is measured against.

Own code that computes what the authors' code does, in its order: float32, eager, contiguous NCHW.
Each waste is one of theirs; numbers are of the method notes' list of defects (K). Nothing slower is
added, and what theirs gets from PyTorch it has here too.

`ReferenceInversion` does iterations of the synthesis of one batch, `ReferenceTraining` mini-batches
and updates of the adversarial training.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import Classifier
from dfshield.synthesis import BatchDraws


class ReferenceInversion:
    """Iterations on one batch: see `step`."""

    def __init__(self, teacher: Classifier, draws: BatchDraws, *, learning_rate: float) -> None:
        # K28: the weights are not frozen, so that backward computes their gradients for nothing.
        self.network = copy.deepcopy(teacher.network).eval().requires_grad_(True)
        self.pixels = torch.tensor(draws.noise).requires_grad_()
        self.labels = torch.from_numpy(draws.labels)
        self.coefficients = draws.coefficients
        self.shifts = iter(draws.shifts.tolist())
        self.optimizer = torch.optim.Adam([self.pixels], lr=learning_rate, betas=(0.9, 0.999))
        self.distances: list[Tensor] = []
        for layer in self.network.modules():
            if isinstance(layer, _BatchNorm):
                layer.register_forward_hook(self._measure)

    def _measure(self, layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        (features,) = inputs  # a forward hook: read once more after the layer has normalised them
        channels = features.shape[1]
        mean = features.mean([0, 2, 3])
        variance = features.permute(1, 0, 2, 3).contiguous().view(channels, -1).var(1, correction=0)
        self.distances.append(
            torch.norm(layer.running_var - variance, 2) + torch.norm(layer.running_mean - mean, 2)
        )

    def step(self) -> float:
        """Do an iteration; return the total loss before it."""
        shifted = torch.roll(self.pixels, next(self.shifts), dims=(2, 3))
        self.distances.clear()
        self.optimizer.zero_grad()
        self.network.zero_grad()
        class_prior = F.cross_entropy(self.network(shifted), self.labels)
        across = shifted[:, :, :, :-1] - shifted[:, :, :, 1:]
        down = shifted[:, :, :-1, :] - shifted[:, :, 1:, :]
        diagonal = shifted[:, :, :-1, :-1] - shifted[:, :, 1:, 1:]
        antidiagonal = shifted[:, :, 1:, :-1] - shifted[:, :, :-1, 1:]
        variation = sum(torch.norm(d) for d in (across, down, diagonal, antidiagonal))
        weights = self.coefficients
        loss = (
            weights.class_prior * class_prior
            + weights.feature * sum(self.distances)
            + weights.tv * variation
        )
        loss.backward()
        self.optimizer.step()
        return loss.item()  # K6: "best" is looked for in every iteration, so the host waits for it


class ReferenceTraining:
    """Mini-batches of equation 11 and updates of equations 9 and 10: see `mini_batch`, `update`."""

    def __init__(
        self,
        student: Classifier,
        teacher: Classifier,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        *,
        eps: float,
        steps: int = 10,
        tau: float = 0.5,
    ) -> None:
        self.student = student.requires_grad_(True)
        self.teacher = teacher.eval().requires_grad_(True)
        self.optimizer = optimizer(list(student.parameters()))
        self.eps = eps
        self.steps = steps
        self.tau = tau
        self.gradients: list[list[Tensor]] = []

    def mini_batch(self, images: Tensor, noise: Tensor) -> float:
        """Attack a mini-batch, keep its gradient; return the loss."""
        proxy = copy.deepcopy(self.student)  # K28: a copy for every mini-batch, thrown away
        adversarial = self._attack(proxy, images, noise)
        proxy.train()
        proxy.zero_grad()
        teacher = self.teacher(images)  # K28: with autograd, in every epoch again
        clean, attacked = proxy(images), proxy(adversarial)
        loss = _kl(teacher.detach(), clean) + _kl(teacher.detach(), attacked) + _kl(clean, attacked)
        loss.backward()
        self.gradients.append([p.grad for p in proxy.parameters() if p.grad is not None])
        return loss.item()

    def _attack(self, proxy: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
        proxy.eval()
        adversarial = images + 0.001 * noise
        for _ in range(self.steps):
            adversarial = adversarial.detach().requires_grad_()
            # K28: S(x), which does not change, is computed in every step.
            divergence = _kl(proxy(images), proxy(adversarial))
            (gradient,) = torch.autograd.grad(divergence, [adversarial])
            adversarial = adversarial.detach() + self.eps / 4 * gradient.sign()
            adversarial = torch.min(torch.max(adversarial, images - self.eps), images + self.eps)
            adversarial = adversarial.clamp(0.0, 1.0)
        return adversarial.detach()

    def update(self) -> None:
        """Refine the gradients of the group and take one step."""
        num_batches = len(self.gradients)
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        for position, parameter in enumerate(parameters):
            signs = torch.zeros_like(parameter)
            positive, negative = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for gradients in self.gradients:
                gradient = gradients[position]
                signs += gradient.sign()
                positive += torch.where(gradient > 0, gradient, 0.0)
                negative += torch.where(gradient < 0, gradient, 0.0)
            majority = torch.where(signs > 0, positive, negative)
            passes = signs.abs() >= self.tau * num_batches
            parameter.grad = torch.where(passes & (signs != 0), majority, 0.0)
        self.optimizer.step()
        self.gradients.clear()


def _kl(target: Tensor, prediction: Tensor) -> Tensor:
    return F.kl_div(
        F.log_softmax(prediction, dim=1), F.softmax(target, dim=1), reduction="batchmean"
    )
