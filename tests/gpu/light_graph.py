"""First light, stage ``graph``: CUDA graphs of the plain forward and backward passes."""

from collections.abc import Callable

import torch
from stage import LackingError, Stage
from subjects import bound, images_of, milliseconds, network
from torch import Tensor

from dfshield.attacks import frozen
from dfshield.divergence import kl_divergence
from dfshield.synthesis import FeatureStatistics, class_prior_loss, total_variation

Gradient = Callable[[Tensor], Tensor]


def graph(stage: Stage) -> None:
    """Capture the gradient of an inversion and that of a PGD step; they must stay the same."""
    device = bound(stage)
    for width in stage.sizes.widths:
        for name, make in {"inversion": of_inversion, "pgd": of_pgd}.items():
            stage.attempt(
                f"{name}, width {width}",
                lambda n=name, m=make, w=width: compared(stage, n, m(stage, w, device), device),
            )
    if device.type != "cuda":
        raise LackingError("there are no CUDA graphs on a CPU")


def of_inversion(stage: Stage, width: int, device: torch.device) -> Gradient:
    """Return the gradient of equation 6 on the pixels."""
    inside = network(stage.sizes, width=width).to(device).requires_grad_(False).network
    labels = torch.arange(stage.sizes.batch, device=device) % 10
    weights = torch.tensor([1.0, 0.5, 2.5e-5], device=device)
    statistics = FeatureStatistics(inside)

    def gradient(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        with statistics.recording():
            logits = inside(images)
            terms = [class_prior_loss(logits, labels), statistics.loss(), total_variation(images)]
        (found,) = torch.autograd.grad((weights * torch.stack(terms)).sum(), [images])
        return found

    return gradient


def of_pgd(stage: Stage, width: int, device: torch.device) -> Gradient:
    """Return the gradient of the divergence that training's attack ascends."""
    student = network(stage.sizes, width=width).to(device)
    with torch.no_grad():
        target = student(images_of(stage.sizes, 1).to(device))

    def gradient(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        with frozen(student):
            loss = kl_divergence(target, student(images), reduction="none").sum()
        (found,) = torch.autograd.grad(loss, [images])
        return found

    return gradient


def compared(stage: Stage, name: str, gradient: Gradient, device: torch.device) -> dict[str, float]:
    first, second = images_of(stage.sizes, 2).to(device).split(stage.sizes.batch)
    replay = captured(gradient, first, device)
    expected = [gradient(images).clone() for images in (second, first)]
    replayed = [replay(images).clone() for images in (second, first)]
    same = all(torch.equal(*pair) for pair in zip(expected, replayed, strict=True))
    stage.expect(f"a captured gradient is the same ({name})", same)
    rounds = stage.sizes.rounds
    return {
        "eager_ms": milliseconds(lambda: gradient(first), device, rounds=rounds),
        "graph_ms": milliseconds(lambda: replay(first), device, rounds=rounds),
    }


def captured(function: Gradient, example: Tensor, device: torch.device) -> Gradient:
    """Return what replays a function on images of the example's shape; on a CPU, the function."""
    images = example.clone()
    if device.type != "cuda":
        return lambda given: function(images.copy_(given))
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):  # what is set up in a first call cannot be captured
        for _ in range(3):
            function(images)
    torch.cuda.current_stream(device).wait_stream(aside)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded, capture_error_mode="thread_local"):
        result = function(images)

    def replay(given: Tensor) -> Tensor:
        images.copy_(given)
        recorded.replay()
        return result

    return replay
