"""First light, stages ``synchronisations`` and ``speed``: what the plain path waits for, and costs.

It is given one to five batches in a pass.
"""

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from stage import LackingError, Stage
from subjects import (
    EPS,
    bound,
    images_of,
    inversion,
    milliseconds,
    network,
    peak_gib,
    synchronise,
    training,
)

from dfshield.classifiers import Classifier
from dfshield.engine.acceleration import Acceleration
from dfshield.seeds import RngStream
from dfshield.synthesis import BatchedInversion, CoefficientSampler, draw_batch
from dfshield.training import InnerMaximization

MINI_BATCHES = 5


def synchronisations(stage: Stage) -> None:
    """Note where the host waits for the GPU."""
    device = bound(stage)
    found: dict[str, dict[str, int]] = {}
    for name, function in {
        "an inversion": lambda: of_inversion(stage, device),
        "PGD, linf": lambda: of_pgd(stage, device, "linf"),
        "PGD, l2": lambda: of_pgd(stage, device, "l2"),
        "an update of 5 mini-batches": lambda: of_update(stage, device),
    }.items():
        found[name] = function()
        stage.note(places=found)
    if device.type != "cuda":
        raise LackingError("a CPU waits for nothing")
    stage.expect("no iteration of an inversion waits", not found["an inversion"])
    stage.expect("no step of PGD waits", not found["PGD, linf"])


@contextmanager
def watched(device: torch.device, places: Counter[str]) -> Iterator[None]:
    """Count the places that wait for the GPU in the block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchroniz" in str(warning.message):
            places[f"{Path(warning.filename).name}:{warning.lineno}"] += 1


def of_inversion(stage: Stage, device: torch.device) -> dict[str, int]:
    """Watch the iterations between the first and the last: what begins and ends it may wait."""
    places: Counter[str] = Counter()
    block, last = watched(device, places), stage.sizes.iterations - 1

    def tick(done: int, _: object) -> None:
        if done == 1:
            block.__enter__()
        if done == last:
            block.__exit__(None, None, None)

    made = inversion(network(stage.sizes).to(device), stage.sizes.iterations)
    made.synthesize(seed=0, batch=0, size=stage.sizes.batch, on_iteration=tick)
    return dict(places)


def of_pgd(stage: Stage, device: torch.device, norm: str) -> dict[str, int]:
    """Return what twenty steps wait for beyond what two do."""
    images = images_of(stage.sizes, 1).to(device)
    student = network(stage.sizes).to(device)
    counted = []
    for steps in (2, 2, 20):
        places: Counter[str] = Counter()
        inner = InnerMaximization(eps=EPS, norm=norm, num_steps=steps)
        with watched(device, places):
            inner(student, images, generator=np.random.default_rng(0))
        counted.append(places)
    return dict(counted[2] - counted[1])


def of_update(stage: Stage, device: torch.device) -> dict[str, int]:
    trainer = trainer_of(stage, network(stage.sizes).to(device))
    trainer.step()
    places: Counter[str] = Counter()
    with watched(device, places):
        trainer.step()
    return dict(places)


def trainer_of(stage: Stage, student: Classifier, together: int = 1):
    images = images_of(stage.sizes, MINI_BATCHES)
    return training(
        student, images, batch=stage.sizes.batch, num_batches=MINI_BATCHES, together=together
    )


def speed(stage: Stage) -> None:
    """Time iterations and mini-batches of the plain path, one to five batches in a pass."""
    device = bound(stage)
    for width in stage.sizes.widths:
        teacher = network(stage.sizes, width=width).to(device).requires_grad_(False)
        stage.attempt(f"inversion_ms, width {width}", lambda t=teacher: plain_ms(stage, t))
        stage.attempt(
            f"inversion_gib, width {width}",
            lambda t=teacher: peak_gib(
                lambda: inversion(t, 3).synthesize(seed=0, batch=0, size=stage.sizes.batch), device
            ),
        )
        for together in (1, 2, 5):
            name = f"width {width}, {together} a pass"
            stage.attempt(
                f"inversion_ms_per_batch, {name}",
                lambda t=teacher, n=together: batched_ms(stage, t, n, device),
            )
            trainer = trainer_of(stage, network(stage.sizes, width=width).to(device), together)
            stage.attempt(
                f"mini_batch_ms, {name}",
                lambda t=trainer: round(milliseconds(t.step, device, rounds=3) / MINI_BATCHES, 3),
            )
            stage.attempt(f"update_gib, {name}", lambda t=trainer: peak_gib(t.step, device))
            del trainer


def plain_ms(stage: Stage, teacher: Classifier) -> float:
    ticks = Ticks(stage, teacher.mean.device)
    made = inversion(teacher, stage.sizes.iterations)
    made.synthesize(seed=0, batch=0, size=stage.sizes.batch, on_iteration=ticks.add)
    return ticks.milliseconds()


class Ticks:
    """Notes when an inversion has gone through its first quarter, and through all."""

    def __init__(self, stage: Stage, device: torch.device) -> None:
        self.device, self.last = device, stage.sizes.iterations
        self.first = max(1, self.last // 4)
        self.moments: dict[int, float] = {}

    def add(self, done: int, _: object) -> None:
        if done in (self.first, self.last):
            synchronise(self.device)
            self.moments[done] = time.perf_counter()

    def milliseconds(self) -> float:
        taken = self.moments[self.last] - self.moments[self.first]
        return round(1e3 * taken / (self.last - self.first), 3)


def batched_ms(stage: Stage, teacher: Classifier, together: int, device: torch.device) -> float:
    sizes = stage.sizes
    draws = [
        draw_batch(
            seed=0,
            stream=RngStream.SYNTHESIS,
            batch=batch,
            size=sizes.batch,
            image_shape=sizes.shape,
            num_classes=10,
            labels="random",
            coefficients=CoefficientSampler(),
            jitter=1,
            iterations=sizes.iterations,
        )
        for batch in range(together)
    ]
    made = BatchedInversion(
        teacher.network,
        groups=together,
        size=sizes.batch,
        image_shape=sizes.shape,
        acceleration=Acceleration(),
    )
    ticks = Ticks(stage, device)
    made.optimise(draws, learning_rate=0.1, on_iteration=ticks.add)
    return round(ticks.milliseconds() / together, 3)
