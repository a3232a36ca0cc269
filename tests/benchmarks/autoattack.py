"""AutoAttack as an evaluation runs it, against pyautoattack called directly.

    python tests/benchmarks/autoattack.py [--num-images 500] [--eps 1/255] [--json FILE]

The published CIFAR-10 ResNet-20 and test images of ``DFSHIELD_DATA``, in one process. `direct` is
pyautoattack's standard suite with its own batches of 250; `ours` goes through the images slice by
slice, broken images leave the batch, and passes are compiled in time, whose seconds count. Of both:
seconds, images that stand, and on how many they differ. Half an hour on a core with the defaults.
"""

import logging
import time
from pathlib import Path
from typing import Annotated

import pyautoattack
import torch
import typer
from measuring import published_resnet20, show

from dfshield.attacks import AutoAttack
from dfshield.classifiers import Classifier
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.compiled_in_time import CompiledInTime
from dfshield.epsilon import parse_epsilon
from dfshield.evaluation import evaluate_slice, slice_bounds
from dfshield.runs import InProcessExecutor
from dfshield.runs.work.attack_engine import plain_images

SLICE = 250


def directly(
    model: Classifier, x: torch.Tensor, y: torch.Tensor, attack: AutoAttack
) -> torch.Tensor:
    """Return which images withstand pyautoattack, called as its README does."""
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    adversary = pyautoattack.AutoAttack(model, norm="Linf", eps=attack.eps, seed=0, device="cpu")
    _, predicted = adversary.run_standard_evaluation(x, y, batch_size=SLICE)
    return predicted == y


def by_slices(
    model: Classifier, x: torch.Tensor, y: torch.Tensor, attack: AutoAttack
) -> torch.Tensor:
    """Return which images withstand the attack, as a worker of an evaluation measures it."""
    fast = CompiledInTime(
        model,
        image_shape=model.input_shape,
        acceleration=Acceleration(compiled=True),
        after=plain_images(model, attack),
    )
    stands = []
    for index, part in enumerate(slice_bounds(len(x), SLICE)):
        fast.begin()
        found = evaluate_slice(model, x[part], y[part], attack, seed=index, attacked=fast)
        stands.append(torch.tensor(found.adversarial_predictions) == y[part])
    return torch.cat(stands)


def main(
    data: Annotated[
        Path, typer.Option(envvar="DFSHIELD_DATA", help="Folder of the weights and images.")
    ],
    eps: str = "1/255",
    num_images: int = 500,
    json: Annotated[str | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    InProcessExecutor().engine().bind()
    model, x, y = published_resnet20(data, num_images)
    model.eval()
    attack = AutoAttack(eps=parse_epsilon(eps))
    seconds, stands = {}, {}
    for name, way in (("ours", by_slices), ("direct", directly)):
        began = time.perf_counter()
        stands[name] = way(model, x, y, attack)
        seconds[name] = time.perf_counter() - began
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    row = {
        "case": f"{num_images} images, eps {eps}",
        **{f"{name}_s": round(value) for name, value in seconds.items()},
        "speedup": round(seconds["direct"] / seconds["ours"], 2),
        **{f"{name}_stand": int(value.sum()) for name, value in stands.items()},
        "differ": int((stands["ours"] != stands["direct"]).sum()),
    }
    show("AutoAttack, standard suite", [row], json)


if __name__ == "__main__":
    typer.run(main)
