"""A3 and Automated against AutoAttack, image by image, on the published CIFAR-10 ResNet-20.

    python tests/benchmarks/strong_attacks.py [--eps 1/255] [--num-images 64] [--json FILE]

The weights and the test images of ``DFSHIELD_DATA``. At 1/255 one image in six stands, so that
attacks can differ. Of every attack: how many images stand, how many it alone and AutoAttack alone
breaks, and seconds per image. ``--json`` keeps what is measured, attack by attack, and goes on from
there. About twenty minutes on a core; ``--trials`` and ``--budget`` are smaller than the attacks'
own defaults, 64 and 1000.
"""

import json as encoder
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from measuring import published_resnet20

from dfshield.attacks import A3, Attack, AutoAttack, Automated
from dfshield.errors import DfshieldWarning


def measured(attack: Attack, num_images: int, data: Path) -> dict[str, Any]:
    """Attack the images; return which stand, seconds per image, and what the attack says."""
    model, x, y = published_resnet20(data, num_images)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DfshieldWarning)
        x_adv = attack(model, x, y, seed=0)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        stands = model(x_adv).argmax(1) == y
    notes = [str(each.message) for each in said if issubclass(each.category, DfshieldWarning)]
    return {"stands": stands.tolist(), "seconds": seconds / len(x), "notes": notes}


def main(
    data: Annotated[
        Path, typer.Option(envvar="DFSHIELD_DATA", help="Folder of the weights and images.")
    ],
    eps: str = "1/255",
    num_images: int = 64,
    trials: int = 16,
    budget: int = 300,
    json: Annotated[Path | None, typer.Option(help="Keep the figures here.")] = None,
) -> None:
    attacks: dict[str, Attack] = {
        "AutoAttack": AutoAttack(eps=eps, version="standard"),
        "A3": A3(eps=eps, budget=budget),
        "Automated": Automated(eps=eps, trials=trials, images=num_images // 2),
    }
    theirs = torch.empty(0, dtype=torch.bool)
    found = encoder.loads(json.read_text()) if json is not None and json.exists() else {}
    for name, attack in attacks.items():
        key = f"{name} {encoder.dumps(attack.describe(), sort_keys=True)} {num_images}"
        found[key] = found.get(key) or measured(attack, num_images, data)
        if json is not None:
            json.write_text(encoder.dumps(found, indent=2))
        ours = torch.tensor(found[key]["stands"])
        theirs = ours if name == "AutoAttack" else theirs
        print(
            f"{name}: {int(ours.sum())} of {num_images} stand; it alone breaks "
            f"{int((theirs & ~ours).sum())}, AutoAttack alone {int((ours & ~theirs).sum())}; "
            f"{found[key]['seconds']:.2f} s an image; {'; '.join(found[key]['notes'])}",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
