"""Which engine work is planned with: what is asked for, and otherwise what pays."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dfshield.classifiers import Classifier
from dfshield.config import EngineConfig
from dfshield.errors import InputError
from dfshield.runs.execution.engine import Engine
from dfshield.runs.identity import differences
from dfshield.storage import Folder

COMPILING_PAYS = 5e12
"""Multiply-adds of forward passes from which compiling, up to a minute a worker, is worth it."""


@dataclass(frozen=True)
class Abilities:
    """What of the fast path a machine can do on its processor.

    Attributes:
        compiles: whether it has the C++ compiler that `torch.compile` calls.
        multiplies_bfloat16: whether its processor has instructions for products in bfloat16.
    """

    compiles: bool
    multiplies_bfloat16: bool


def abilities_here() -> Abilities:
    """Return what this machine can do."""
    return Abilities(has_compiler(), multiplies_bfloat16())


def multiply_adds(classifier: Classifier) -> float:
    """Return the multiply-adds of one image's forward pass: convolutions and matrix products."""
    image = torch.zeros(1, *classifier.input_shape, device=classifier.mean.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        classifier(image)
    return float(counter.get_total_flops() / 2)


def planned_engine(
    here: Engine,
    options: EngineConfig,
    *,
    work: float,
    bound: dict[str, Any] | None = None,
    can: Callable[[], Abilities] = abilities_here,
) -> Engine:
    """Return the engine for some work.

    Left to itself, work on CPUs is compiled when there is enough of it and a C++ compiler is found
    there, and then computes in bfloat16 where the processor multiplies in it. On GPUs it stays
    plain: no run has shown yet that the fast path is right there, so it has to be asked for.

    Args:
        here: the plain engine of this place.
        options: what is asked for; what is left open is what the work was begun with.
        work: multiply-adds of all forward passes of the work.
        bound: the engine that the work was begun with, as it was recorded; None if it begins.
        can: returns what the machine can do that will compute it, which need not be this one; asked
            only where it matters.

    Raises:
        InputError: for a precision that this place does not multiply in.
    """
    if bound is not None:
        begun = Engine.from_json(bound)
        precision, compiled, together = begun.precision, begun.compiled, begun.batches_per_pass
        graphed = begun.graphed and options.compile == "auto" and here.device == "cuda"
    else:
        able = can() if here.device == "cpu" and work >= COMPILING_PAYS else Abilities(False, False)
        compiled, together, graphed = able.compiles, 1, False
        precision = "bfloat16" if compiled and able.multiplies_bfloat16 else "float32"
    engine = replace(
        here,
        precision=precision if options.precision == "auto" else options.precision,
        compiled=compiled if options.compile == "auto" else options.compile,
        batches_per_pass=options.batches_per_pass or together,
        graphed=graphed and options.precision in ("auto", "float32"),
    )
    _require_precision(engine)
    return engine


def _require_precision(engine: Engine) -> None:
    precision = engine.precision
    if precision == "tf32" and engine.device != "cuda":
        raise InputError("engine.precision: tf32 is for GPUs, and the work here is done on CPUs")
    gpu = engine.accelerator
    if precision != "float32" and gpu is not None and not gpu.has_tensor_cores:
        raise InputError(
            f"engine.precision: {precision} needs a GPU of compute capability 8.0 or later, "
            f"{gpu.name} has {gpu.capability}: take float32"
        )


def resumed_engine(
    here: Engine, bound: Mapping[str, Any], *, where: Folder, replan: bool
) -> Engine:
    """Return the engine that begun work is bound to, or this machine's if it is replanned.

    Threads are a setting that follows the work; all else was planned for this machine.

    Raises:
        InputError: if this machine cannot go on under the bound engine.
    """
    if replan:
        return here
    engine = Engine.from_json(bound)
    changed = differences(engine.to_json(), {**here.to_json(), "threads": engine.threads})
    if changed:
        raise InputError(
            f"{where} was begun under another engine ({'; '.join(changed)}), which gives "
            "other bytes; resume where it was begun, or go on here with --replan"
        )
    return engine


def has_compiler() -> bool:
    """Return whether there is the C++ compiler here that `torch.compile` calls."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def multiplies_bfloat16() -> bool:
    """Return whether this machine's processor has instructions for products in bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
