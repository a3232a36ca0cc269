"""AutoAttack by `dfshield evaluate`, against pyautoattack called directly.

    python tests/benchmarks/autoattack.py
    python tests/benchmarks/autoattack.py --num-images 500 cluster.address=none

The published CIFAR-10 ResNet-20 and test images of ``DFSHIELD_DATA``, on all cores. `ours` is the
command from nothing, with Ray's start and the compiler's seconds; settings after the options are
handed to it. `direct` is pyautoattack's standard suite on the same images, with its own batches of
250 and torch's own threads. Of both: seconds, images that stand, and on how many they differ.
Three quarters of an hour on two cores with the defaults.
"""

import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import pyautoattack
import torch
import typer
from measuring import published_resnet20, show

from dfshield.epsilon import parse_epsilon

BATCH = 250
WHOLE = 10_000
"""All test images that there are."""


def directly(data: Path, chosen: list[int], eps: float) -> tuple[float, list[bool]]:
    """Return seconds, and which images withstand pyautoattack, called as its README does."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    model, x, y = published_resnet20(data, WHOLE)
    x, y = x[chosen], y[chosen]
    began = time.perf_counter()
    adversary = pyautoattack.AutoAttack(model.eval(), norm="Linf", eps=eps, seed=0, device="cpu")
    _, predicted = adversary.run_standard_evaluation(x, y, batch_size=BATCH)
    return time.perf_counter() - began, (predicted == y).tolist()


def by_command(
    data: Path, eps: str, num_images: int, settings: list[str]
) -> tuple[float, list[int], list[bool]]:
    """Return seconds, the images that were attacked, and which of them withstand it."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(Path(sys.executable).with_name("dfshield"), "evaluate"),
            *("--model", "dfshield:resnet20", "--weights", data / "cifar10_resnet20.th"),
            *("--data", f"npz:{data / 'cifar10_test.npz'}", "--out", out),
            *("--eps", eps, "--num-images", num_images),
            "teacher.mean=[0.485, 0.456, 0.406]",
            "teacher.std=[0.229, 0.224, 0.225]",
            "evaluation.attacks=[{name: autoattack}]",
            *settings,
        ]
        began = time.perf_counter()
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - began
        (records,) = Path(out, "evaluation").glob("*autoattack*.parquet")
        table = pq.read_table(records)
    stands = table["adversarial_prediction"].to_numpy() == table["label"].to_numpy()
    return seconds, table["index"].to_pylist(), stands.tolist()


def main(
    data: Annotated[
        Path, typer.Option(envvar="DFSHIELD_DATA", help="Folder of the weights and images.")
    ],
    settings: Annotated[list[str] | None, typer.Argument(help="Of the command.")] = None,
    eps: str = "1/255",
    num_images: int = 1000,
    json: Annotated[str | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    ours, chosen, ours_stand = by_command(data, eps, num_images, settings or [])
    print(f"ours: {ours:.0f} s", flush=True)
    direct, direct_stand = directly(data, chosen, parse_epsilon(eps))
    row = {
        "case": f"{num_images} images, eps {eps}, {torch.get_num_threads()} threads",
        "ours_s": round(ours),
        "direct_s": round(direct),
        "speedup": round(direct / ours, 2),
        "ours_stand": sum(ours_stand),
        "direct_stand": sum(direct_stand),
        "differ": sum(a != b for a, b in zip(ours_stand, direct_stand, strict=True)),
    }
    show("AutoAttack, standard suite", [row], json)


if __name__ == "__main__":
    typer.run(main)
