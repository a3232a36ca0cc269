"""What the speed benchmarks share: classifiers to measure, measuring by turns, tables, limits."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dfshield.classifiers import Classifier, build
from dfshield.datasets import load_images
from dfshield.engine.acceleration import Acceleration
from dfshield.runs import InProcessExecutor
from dfshield.runs.execution.engine_choice import multiplies_bfloat16

CASES = {
    "resnet20": ("pytorchcv:resnet20_cifar10", (3, 32, 32), 10),
    "resnet56": ("pytorchcv:resnet56_cifar10", (3, 32, 32), 10),
    "wrn28-10": ("pytorchcv:wrn28_10_cifar10", (3, 32, 32), 10),
    "medmnist-resnet18": ("medmnist:resnet18", (3, 28, 28), 10),
    "grey-resnet20": ("dfshield:resnet20", (1, 28, 28), 10),
}
"""Architectures, by name: source, image shape, number of classes."""

SMALL_DIGITS = (
    "teacher.train.epochs=2",
    "synthesis.method.iterations=3",
    "synthesis.num_images=80",
    "synthesis.num_holdout=20",
    "synthesis.batch_size=20",
    "storage.part_size=40",
    "storage.shard_size=80",
    "training.epochs=1",
    "training.batch_size=20",
    "evaluation.num_images=20",
)
"""Overrides under which a run of the digits rehearses itself in seconds."""


def start() -> list[Acceleration]:
    """Let this process compute as a run does here; return the faster ways that a trial compares."""
    InProcessExecutor().engine().bind()
    ways = [Acceleration("float32", compiled=True)]
    return [*ways, Acceleration("bfloat16", compiled=True)] if multiplies_bfloat16() else ways


def keep_fastest(taken: dict[str, np.ndarray], ways: Sequence[Acceleration]) -> torch.dtype:
    """Let the fastest way, by its median, be ``fast`` in ``taken``; return what it multiplies in.

    Those of the ways, by the names of their precisions, are taken out.
    """
    of_ways = {way.precision: taken.pop(way.precision) for way in ways}
    best = min(of_ways, key=lambda name: float(np.median(of_ways[name])))
    taken["fast"] = of_ways[best]
    dtype: torch.dtype = getattr(torch, best)
    return dtype


@contextmanager
def beside(busy: bool) -> Iterator[None]:
    """Keep a core busy meanwhile, if asked to, with a process of the lowest priority."""
    if not busy:
        yield
        return
    code = "import os; os.nice(19)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield
        finally:
            process.kill()


def rates() -> str:
    """Say how fast this machine multiplies, in float32 and, where it does so, in bfloat16."""
    told = [f"float32 {best_rate(torch.float32) / 1e9:.0f} GFLOP/s"]
    if multiplies_bfloat16():
        told.append(f"bfloat16 {best_rate(torch.bfloat16) / 1e9:.0f}")
    return f"{', '.join(told)}, {torch.get_num_threads()} threads"


def classifier(case: str) -> Classifier:
    """Return a classifier with weights and statistics drawn from a seed: speed needs no more."""
    source, shape, classes = CASES[case]
    own = source.startswith("dfshield")
    made = build(
        source,
        input_shape=shape if own else None,
        num_classes=classes,
        mean=[0.5] * shape[0] if own else None,
        std=[0.25] * shape[0] if own else None,
    )
    generator = torch.Generator().manual_seed(0)
    for layer in made.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(0.0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return made.eval()


def by_turns(
    functions: Mapping[str, Callable[[], object]], *, rounds: int
) -> dict[str, np.ndarray]:
    """Return the milliseconds of each function's calls, by turns, after one that is not counted.

    By turns, since a shared machine is not always equally fast.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            if turn > 0:
                taken[name].append(1e3 * (time.perf_counter() - begun))
    return {name: np.array(values) for name, values in taken.items()}


def row(case: str, taken: Mapping[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """Return medians, what is won over the reference, and the spread of that over the rounds."""
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    speedups = taken["reference"] / taken["fast"]
    low, high = np.percentile(speedups, [25, 75])
    return {
        "case": case,
        **{f"{name}_ms": round(value, 2) for name, value in medians.items()},
        "speedup": round(medians["reference"] / medians["fast"], 2),
        "spread": f"{low:.2f}-{high:.2f}",
        **more,
    }


def peak_megabytes() -> int:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class _Operations(TorchDispatchMode):
    """Counts by torch's own formulas; its `FlopCounterMode` stands no gradients of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


def operations(function: Callable[[], object]) -> float:
    """Return the floating-point operations of a call's convolutions and matrix products."""
    with _Operations() as counter:
        function()
    return float(counter.total)


def best_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the operations per second of a plain matrix product: what this machine can do."""
    left, right = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    (taken,) = by_turns({"product": lambda: left @ right}, rounds=7).values()
    return 2 * size**3 / (taken.min() / 1e3)


def share_of_rate(work: float, milliseconds: float, dtype: torch.dtype) -> str:
    """Return what share of `best_rate` operations of so many milliseconds reach, in percent."""
    return f"{work / (milliseconds / 1e3) / best_rate(dtype):.0%}"


def published_resnet20(data: Path, num_images: int) -> tuple[Classifier, Tensor, Tensor]:
    """Return the published CIFAR-10 ResNet-20 with real test images and their labels.

    Args:
        data: the folder of weights and images.
        num_images: how many, of all classes alike.
    """
    model = build(
        "dfshield:resnet20",
        num_classes=10,
        weights=data / "cifar10_resnet20.th",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    images = load_images("npz", split="test", path=data / "cifar10_test.npz")
    return model, *images.stratified(num_images, seed=0).tensors()


def copy_rate(megabytes: int = 256) -> float:
    """Return the bytes per second that a plain copy reads and writes."""
    source = torch.zeros(megabytes << 20, dtype=torch.uint8)
    target = torch.empty_like(source)
    (taken,) = by_turns({"copy": lambda: target.copy_(source)}, rounds=7).values()
    return 2 * source.numel() / (taken.min() / 1e3)


def show(title: str, rows: Sequence[Mapping[str, Any]], file: str | None) -> None:
    """Print the rows as a table and, if a file is named, write them to it as JSON."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "case" else "right")
    for values in rows:
        table.add_row(*map(str, values.values()))
    Console(width=160).print(table)
    if file is not None:
        Path(file).write_text(json.dumps({"rows": list(rows)}, indent=1))
