"""First light, stage ``compile``: seconds, errors, and the bytes of two processes."""

import os
import time
import warnings
from collections.abc import Callable

import torch
from stage import Stage
from subjects import (
    bound,
    digest,
    error_of,
    ieee,
    images_of,
    inversion,
    milliseconds,
    network,
    training,
)

from dfshield.engine.acceleration import Acceleration

BATCHES = 2
EXPECTED_ERROR = {"float32": 0.01, "bfloat16": 0.3}
"""Of the pixels' way in a few iterations, against that of the plain path: Adam goes by the sign."""


def compiled(stage: Stage) -> None:
    """Compile inversion and training in both precisions."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(stage.folder / "first")
    stage.note(versions=in_precisions(stage, stage.sizes.precisions))


def compiled_again(stage: Stage) -> None:
    """Compile in another process, with nothing to go by; then with what the first one kept."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(stage.folder / "second")
    again = in_precisions(stage, ("float32",), noted="again")
    first = stage.figures["versions"]
    for precision, found in again.items():
        for what in ("images", "student"):
            stage.expect(
                f"compiled {what} of another process ({precision})",
                found[what] == first[precision][what],
            )


def in_precisions(stage: Stage, precisions: tuple[str, ...], noted: str = "progress") -> dict:
    device = bound(stage)
    ieee()
    if stage.sizes.compiler is not None:
        torch.compile = _by(stage.sizes.compiler)
    found: dict[str, dict[str, object]] = {}
    for precision in precisions:
        torch.compiler.reset()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            acceleration = Acceleration(precision, compiled=True)
            one = found[precision] = {}
            one |= of_inversion(stage, acceleration, device)
            stage.note(**{noted: found})
            one |= of_training(stage, acceleration, device)
        one["warnings"] = sorted({str(w.message)[:200] for w in caught})
        stage.note(**{noted: found})
        stage.expect(f"{precision} is compiled", not any("could not" in w for w in one["warnings"]))
        stage.expect(
            f"{precision} goes the plain way", one["inversion_error"] < EXPECTED_ERROR[precision]
        )
    return found


def _by(compiler: str) -> Callable[..., Callable[..., object]]:
    """Return ``torch.compile`` by another compiler, for the rest of this process."""
    usual = torch.compile
    return lambda function, **options: usual(
        function, backend=compiler, dynamic=options.get("dynamic")
    )


def of_inversion(
    stage: Stage, acceleration: Acceleration, device: torch.device
) -> dict[str, object]:
    sizes = stage.sizes
    teacher = network(sizes).to(device)
    start = inversion(teacher, 1).synthesize(seed=0, batch=0, size=sizes.batch).images
    plain = inversion(teacher, 4).synthesize(seed=0, batch=0, size=sizes.batch).images
    begun = time.perf_counter()
    fast = inversion(teacher, 4, acceleration)
    made = fast.synthesize(seed=0, batch=0, size=sizes.batch)
    seconds = time.perf_counter() - begun
    one = milliseconds(
        lambda: fast.synthesize(seed=0, batch=0, size=sizes.batch), device, rounds=sizes.rounds
    )
    return {
        "inversion_seconds_to_begin": round(seconds, 1),
        "inversion_ms": round(one / 4, 3),
        "inversion_error": error_of(made.images - start, plain - start),
        "images": digest([made.images]),
    }


def of_training(
    stage: Stage, acceleration: Acceleration, device: torch.device
) -> dict[str, object]:
    sizes = stage.sizes
    records, students = [], []
    begun = time.perf_counter()
    for how in (None, acceleration):
        student = network(sizes).to(device)
        begun = time.perf_counter()
        trainer = training(
            student,
            images_of(sizes, BATCHES),
            batch=sizes.batch,
            num_batches=BATCHES,
            acceleration=how,
        )
        records.append(trainer.step())
        seconds = time.perf_counter() - begun
        students.append(digest(student.state_dict().values()))
    return {
        "training_seconds_to_begin": round(seconds, 1),
        "mini_batch_ms": round(milliseconds(trainer.step, device, rounds=3) / BATCHES, 3),
        "loss_plain_and_compiled": [record.loss for record in records],
        "agreement_rate_plain_and_compiled": [record.agreement_rate for record in records],
        "student": students[-1],
    }
