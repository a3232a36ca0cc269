"""What the runner costs over the plain loop of the inversion engine.

    python tests/benchmarks/runner_overhead.py

Synthesizes the same batches twice in one process, through `Run` (planning, Parquet parts,
checks, events, pictures) and by calling `Inversion` in a loop, and prints the ratio of medians.
"""

import tempfile
import time
from statistics import median

import dfshield
from dfshield.config import config_from
from dfshield.runs import Run
from dfshield.synthesis import Inversion

BATCHES, SIZE, ITERATIONS, ROUNDS = 4, 200, 100, 3


def settings(folder: str, name: str) -> dict:
    return {
        "name": name,
        "teacher": {
            "source": "dfshield:resnet8",
            "input_shape": [1, 8, 8],
            "train": {"data": {"name": "digits"}, "epochs": 2},
        },
        "synthesis": {
            "num_images": BATCHES * SIZE,
            "num_holdout": 0,
            "iterations": ITERATIONS,
            "batch_size": SIZE,
        },
        "training": {"gradrefine": {"num_batches": 1}},
        "storage": {"path": folder, "part_size": SIZE, "shard_size": BATCHES * SIZE},
    }


def main() -> None:
    plain, driven = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(ROUNDS):
            run = Run(config_from(settings(folder, f"run-{index}")))
            run.run(["teacher"])
            teacher = dfshield.load(f"{folder}/run-{index}/teacher")
            start = time.perf_counter()
            run.run(["synthesize"])
            driven.append(time.perf_counter() - start)
            start = time.perf_counter()
            inversion = Inversion(teacher, iterations=ITERATIONS)
            for batch in range(BATCHES):
                inversion.synthesize(seed=0, batch=batch, size=SIZE)
            plain.append(time.perf_counter() - start)
    print(f"plain loop {median(plain):.2f} s, runner {median(driven):.2f} s")
    print(f"ratio {median(driven) / median(plain):.3f}")


if __name__ == "__main__":
    main()
