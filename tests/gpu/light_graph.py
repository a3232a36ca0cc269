"""First light, stage ``graph``: plain passes that are replayed from CUDA graphs.

The rehearsal pretends graphs: see tests/recorded_graphs.py.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from stage import Stage
from subjects import (
    EPS,
    bound,
    digest,
    images_of,
    inversion,
    milliseconds,
    network,
    peak_gib,
    training,
)
from torch import Tensor, nn

from dfshield.engine.acceleration import Acceleration, CompilationError
from dfshield.engine.cuda_graph import GraphedFunction, GraphedModel
from dfshield.synthesis import FeatureStatistics
from dfshield.synthesis.graphed import GraphedGradient
from dfshield.synthesis.plain import gradient_of
from dfshield.training import InnerMaximization

sys.path.insert(0, str(Path(__file__).parents[1]))
from recorded_graphs import pretend

GRAPHED = Acceleration(graphed=True)


def graph(stage: Stage) -> None:
    """Compare replayed gradients, images and students with plain ones; time both."""
    device = bound(stage)
    if device.type != "cuda":
        pretend(SimpleNamespace(setattr=setattr))
        stage.note(pretended=True)
    stage.attempt("what_cannot_be_recorded", lambda: refused(stage, device))
    for width in stage.sizes.widths:
        for name, function in {
            "an iteration": of_iteration,
            "ten steps of PGD": of_pgd,
            "images": of_images,
            "a student": of_student,
        }.items():
            stage.attempt(
                f"{name}, width {width}",
                lambda f=function, n=name, w=width: f(stage, device, w, f"{n}, width {w}"),
            )


def refused(stage: Stage, device: torch.device) -> str:
    """Record what waits for the GPU, which must be usable afterwards."""
    one = torch.ones(4, device=device)
    try:
        GraphedFunction(lambda x: (x + float(x.sum()),), (one,), "what waits")
        told = "it was recorded"
    except CompilationError as error:
        told = str(error)
    stage.expect("what waits for the GPU cannot be recorded", told.startswith("what waits cannot"))
    replayed = GraphedFunction(lambda x: (2 * x,), (one,), "what does not")
    stage.expect("the GPU is usable after it", float(replayed(one)[0].sum()) == 8.0)
    return told


def of_iteration(stage: Stage, device: torch.device, width: int, name: str) -> dict[str, float]:
    """Return the times of the gradient of equation 6 on the pixels."""
    inside = network(stage.sizes, width=width).to(device).requires_grad_(False).network
    labels = torch.arange(stage.sizes.batch, device=device) % 10
    given = {"labels": labels, "weights": torch.tensor([1.0, 0.5, 2.5e-5], device=device)}
    statistics = FeatureStatistics(inside)
    replayed = GraphedGradient(inside, size=stage.sizes.batch, image_shape=stage.sizes.shape)
    first, second = images_of(stage.sizes, 2).to(device).split(stage.sizes.batch)

    def plain(images: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
        with statistics.recording():
            pixels = images.detach().requires_grad_()
            return gradient_of(inside, statistics, pixels, shift=shift, **given)

    shifts = [(1, -2), (0, 0), (-1, 1)]
    pairs = [(images, shift) for shift in shifts for images in (first, second)]
    same = all(
        torch.equal(a, b)
        for images, shift in pairs
        for a, b in zip(plain(images, shift), replayed(images, shift=shift, **given), strict=True)
    )
    stage.expect(f"replayed: {name}", same)
    return timed(
        stage,
        device,
        lambda: plain(first, shifts[0]),
        lambda: replayed(first, shift=shifts[0], **given),
    )


def of_pgd(stage: Stage, device: torch.device, width: int, name: str) -> dict[str, float]:
    student = network(stage.sizes, width=width).to(device)
    graphed = GraphedModel(student, image_shape=stage.sizes.shape, size=stage.sizes.batch)
    images = images_of(stage.sizes, 1).to(device)

    def attacked(model: nn.Module, norm: str = "linf") -> Tensor:
        inner = InnerMaximization(eps=EPS, norm=norm)
        return inner(model, images, generator=np.random.default_rng(0))

    same = all(
        torch.equal(attacked(student, norm), attacked(graphed, norm)) for norm in ("linf", "l2")
    )
    stage.expect(f"replayed: {name}", same)
    return timed(stage, device, lambda: attacked(student), lambda: attacked(graphed))


def of_images(stage: Stage, device: torch.device, width: int, name: str) -> dict[str, object]:
    """Make a batch of a run, plainly and replayed; two batches in a pass, replayed or not."""
    sizes, made = stage.sizes, {}
    teacher = network(sizes, width=width).to(device)
    for number in (1, 2):
        for how, acceleration in (("plain", None), ("replayed", GRAPHED)):
            bound_one = inversion(teacher, sizes.iterations, acceleration)
            batches = bound_one.synthesize_batches(seed=0, batches=range(number), size=sizes.batch)
            made[how, number] = digest([batch.images for batch in batches])
        stage.expect(
            f"replayed: {name}, {number} a pass", made["plain", number] == made["replayed", number]
        )
    return {"plain": made["plain", 1]}


def of_student(stage: Stage, device: torch.device, width: int, name: str) -> dict[str, object]:
    """Train for two updates, plainly and replayed, one and two mini-batches attacked together."""
    sizes, found = stage.sizes, {}
    for together in (1, 2):
        students = []
        for how, acceleration in (("plain", None), ("replayed", GRAPHED)):
            student = network(sizes, width=width).to(device)
            trainer = training(
                student,
                images_of(sizes, 2),
                batch=sizes.batch,
                num_batches=2,
                acceleration=acceleration,
                together=together,
            )
            for _ in range(2):
                trainer.step()
            students.append(digest(student.state_dict().values()))
            each = milliseconds(trainer.step, device, rounds=3) / 2
            found[f"mini_batch_ms, {how}, {together} a pass"] = round(each, 3)
            if device.type == "cuda":
                found[f"update_gib, {how}, {together} a pass"] = peak_gib(trainer.step, device)
        stage.expect(f"replayed: {name}, {together} a pass", students[0] == students[1])
    return found


def timed(
    stage: Stage, device: torch.device, plain: Callable[[], object], replayed: Callable[[], object]
) -> dict[str, float]:
    rounds = stage.sizes.rounds
    found = {
        "plain_ms": milliseconds(plain, device, rounds=rounds),
        "replayed_ms": milliseconds(replayed, device, rounds=rounds),
    }
    return {**found, "faster": round(found["plain_ms"] / found["replayed_ms"], 2)}
