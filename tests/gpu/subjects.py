"""What the stages of `first_light.py` compute: a network, its inversion, its training."""

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from stage import LackingError, Sizes, Stage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dfshield.classifiers import Classifier, build
from dfshield.engine.acceleration import Acceleration
from dfshield.runs import InProcessExecutor
from dfshield.synthesis import DSS, BoundSynthesizer
from dfshield.training import AdversarialTrainer, InnerMaximization, SoftLabelObjective

EPS = 8 / 255


def bound(stage: Stage) -> torch.device:
    """Let this process compute as a run does here, and return the device."""
    InProcessExecutor().engine().bind()
    return torch.device(stage.device)


def network(sizes: Sizes, *, width: int | None = None) -> Classifier:
    """Return a classifier with weights and statistics drawn from a seed."""
    made = build(
        sizes.network,
        input_shape=sizes.shape,
        num_classes=10,
        options={"width": width or sizes.widths[0]},
    )
    generator = torch.Generator().manual_seed(0)
    for layer in made.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(0.0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return made.eval()


def inversion(
    teacher: Classifier, iterations: int, acceleration: Acceleration | None = None
) -> BoundSynthesizer:
    """Return the inversion of a teacher, on its device."""
    method = DSS(iterations=iterations, jitter=1, labels="random")
    return method.bind(teacher, acceleration=acceleration)


def images_of(sizes: Sizes, batches: int) -> Tensor:
    """Return random images in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batches * sizes.batch, *sizes.shape, generator=generator)


def training(
    student: Classifier,
    images: Tensor,
    *,
    batch: int,
    num_batches: int,
    acceleration: Acceleration | None = None,
    together: int = 1,
    epochs: int = 1000,
    **changes: Any,
) -> AdversarialTrainer:
    """Return the training of a student on its own logits of some images, on its device."""
    device = student.mean.device
    images = images.to(device)
    with torch.no_grad():
        logits = torch.cat([student(part) for part in images.split(batch)])
    student.requires_grad_(True)
    return AdversarialTrainer(
        student,
        images=images,
        labels=logits.argmax(dim=1),
        teacher_logits=logits,
        optimizer=torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4),
        objective=SoftLabelObjective(),
        inner=InnerMaximization(eps=EPS),
        epochs=epochs,
        batch_size=batch,
        num_batches=num_batches,
        acceleration=acceleration,
        batches_per_pass=together,
        **changes,
    )


def digest(tensors: Iterable[Tensor | np.ndarray]) -> str:
    """Return what tells tensors apart whose bytes differ."""
    sha = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def error_of(found: Tensor, reference: Tensor) -> float:
    """Return the size of a difference in units of the reference's, in float64 on the CPU."""
    found, reference = found.detach().double().cpu(), reference.detach().double().cpu()
    return float((found - reference).norm() / reference.norm())


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(function: Callable[[], object], device: torch.device, *, rounds: int) -> float:
    """Return the median time of a call after two that are not counted."""
    taken = []
    for turn in range(rounds + 2):
        synchronise(device)
        begun = time.perf_counter()
        function()
        synchronise(device)
        if turn > 1:
            taken.append(1e3 * (time.perf_counter() - begun))
    return round(float(np.median(taken)), 3)


def peak_gib(function: Callable[[], object], device: torch.device) -> float:
    """Return the most GPU memory that a call needs, in GiB.

    Raises:
        LackingError: without a GPU.
    """
    if device.type != "cuda":
        function()
        raise LackingError("no GPU whose memory could be looked at")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    function()
    synchronise(device)
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 3)


def ieee(*, tf32: bool = False) -> None:
    """Let float32 convolutions and products be rounded as IEEE says, or as TF32 does."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def weights_of(model: nn.Module) -> Tensor:
    """Return weights and buffers of a model, end to end, in float64 on the CPU."""
    return torch.cat([v.detach().double().cpu().flatten() for v in model.state_dict().values()])
