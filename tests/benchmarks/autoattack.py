"""How fast AutoAttack is: as a run computes it, against pyautoattack called directly.

    python tests/benchmarks/autoattack.py [--num-images 1000] [--eps 1/255] [--json FILE]

The CIFAR-10 ResNet-20 and the test images of the folder that DFSHIELD_DATA names. `fast` is what a
long evaluation takes: compiled float32 passes with BatchNorm folded, which images that are broken
leave; its seconds to begin are told apart. `plain` (with ``--plain``) is what a short one takes.
Blocks of images by turns, in seconds of the processor: beside other work the clock tells little.
Verdicts are compared image by image, those of `fast` and `plain` as the model itself predicts on
what came back. With a ``--budget`` below 1, that share of iterations and queries, `plain` stands
for `direct`, to which it is equal. ``--small`` is a rehearsal: a network that knows nothing.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pyautoattack
import torch
import typer
from measuring import classifier, show, start
from torch import Tensor

from dfshield.attacks import AutoAttack
from dfshield.classifiers import Classifier, build, frozen
from dfshield.datasets import load_images
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.frozen_passes import FrozenPasses
from dfshield.epsilon import parse_epsilon
from dfshield.evaluation import evaluate_slice
from dfshield.evaluation.slices import robust_images

SEED = 0
Way = Callable[[Tensor, Tensor], Tensor]
"""Images and labels in, (n,) out: which images withstand."""


def resnet20(num_images: int) -> tuple[Classifier, Tensor, Tensor]:
    folder = Path(os.environ.get("DFSHIELD_DATA", "../shared/data"))
    model = build(
        "dfshield:resnet20",
        weights=folder / "cifar10_resnet20.th",
        num_classes=10,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )
    images = load_images("npz", path=folder / "cifar10_test.npz")
    return model.eval(), *images.tensors(slice(0, num_images))


def untrained(num_images: int) -> tuple[Classifier, Tensor, Tensor]:
    model = classifier("grey-resnet20")
    x = torch.rand(num_images, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def directly(model: Classifier, eps: float) -> Way:
    def attack(x: Tensor, y: Tensor) -> Tensor:
        # Frozen, as FAB would else compute the gradients of the weights for nothing.
        with torch.random.fork_rng(devices=[]), frozen(model):
            adversary = pyautoattack.AutoAttack(model, norm="Linf", eps=eps, seed=SEED)
            _, predicted = adversary.run_standard_evaluation(x, y, batch_size=250)
        return predicted == y

    return attack


def as_a_run(model: Classifier, eps: float, budget: float, passes: FrozenPasses | None) -> Way:
    attack = AutoAttack(eps=eps)
    if budget < 1:
        attack = AutoAttack(
            eps=eps,
            version="custom",
            attacks=attack.parts,
            num_steps=round(100 * budget),
            queries=round(5000 * budget),
        )
    attack.leave_broken = passes is not None

    def measured(x: Tensor, y: Tensor) -> Tensor:
        result = evaluate_slice(model, x, y, attack, seed=SEED, attacked=passes)
        return torch.from_numpy(robust_images(result))

    return measured


def main(
    num_images: int = 1000,
    eps: str = "1/255",
    block: Annotated[int, typer.Option(help="Images of a turn.")] = 250,
    budget: Annotated[float, typer.Option(min=0.01, max=1.0)] = 1.0,
    plain: Annotated[bool, typer.Option("--plain")] = False,
    compiled: Annotated[bool, typer.Option("--compiled/--uncompiled")] = True,
    small: Annotated[bool, typer.Option("--small")] = False,
    json: Annotated[str | None, typer.Option(help="Write the rows here.")] = None,
) -> None:
    start()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    model, x, y = (untrained if small else resnet20)(num_images)
    radius = parse_epsilon(eps)
    begun = time.perf_counter()
    passes = FrozenPasses(
        model,
        image_shape=model.input_shape,
        acceleration=Acceleration(compiled=compiled),
    )
    begin = time.perf_counter() - begun
    ways = {"fast": as_a_run(model, radius, budget, passes)}
    if plain or budget < 1:
        ways["plain"] = as_a_run(model, radius, budget, None)
    if budget == 1:
        ways["direct"] = directly(model, radius)
    seconds, robust = dict.fromkeys(ways, 0.0), {name: [] for name in ways}
    for part in zip(x.split(block), y.split(block), strict=True):
        for name, way in ways.items():
            begun = time.process_time()
            robust[name].append(way(*part))
            seconds[name] += time.process_time() - begun
    reference = next(reversed(ways))
    verdicts = {name: torch.cat(parts) for name, parts in robust.items()}
    rows = [
        {
            "case": name,
            "seconds": round(seconds[name], 1),
            "to begin": round(begin, 1) if name == "fast" else 0.0,
            "speedup": round(seconds[reference] / seconds[name], 2),
            "robust": f"{verdicts[name].float().mean():.1%}",
            "other verdicts": int((verdicts[name] != verdicts[reference]).sum()),
        }
        for name in ways
    ]
    show(f"AutoAttack on {num_images} images, l_inf {eps}", rows, json)


if __name__ == "__main__":
    typer.run(main)
