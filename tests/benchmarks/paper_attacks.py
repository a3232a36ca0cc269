"""Tables 9, 10 and 21 of the paper for a digits run: is any gradient masked?

    dfshield run examples/digits.yaml
    python tests/benchmarks/paper_attacks.py runs/digits [--num-images 200] [--json FILE]

Three classifiers: the run's teacher, its hardened student, and the teacher trained adversarially on
the real digits with their labels (PGD-7, cross-entropy), which is what the student should resemble.
The paper's columns, as far as its headers are known; of its two adaptive attacks of table 9 A3 is
here, Automated is not. Needs the extra ``blackbox``.
"""

import copy
import json as encoder
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

import dfshield
from dfshield.attacks import ATTACKS, PGD, make_attack
from dfshield.datasets import load_images
from dfshield.evaluation import evaluate

EPS = 0.1
STEPS = (1, 2, 5, 10, 20)
TABLES = {
    "Table 9": {
        "clean": None,
        "GenAttack": ("genattack", {}),
        "Boundary": ("boundary", {}),
        "SPSA": ("spsa", {}),
        "AutoAttack": ("autoattack", {}),
        "A3": ("a3", {}),
    },
    "Table 10": {
        "clean": None,
        **{f"PGD-{steps}": ("pgd", {"num_steps": steps}) for steps in STEPS},
        "unbounded": ("pgd-unbounded", {}),
    },
    "Table 21": {
        "clean": None,
        "PGD-10": ("pgd", {"num_steps": 10}),
        "AutoAttack": ("autoattack", {}),
        "latent": ("latent", {}),
        **{f"({terms})": ("pgd-objective", {"terms": terms}) for terms in "abc"},
    },
}


def trained_on_real_images(teacher: nn.Module, *, epochs: int = 30) -> nn.Module:
    """Adversarial training of Madry et al. (2018) from the teacher's weights."""
    x, y = load_images("digits", split="train").tensors()
    model, draw = copy.deepcopy(teacher).requires_grad_(True), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    attack = PGD(eps=EPS, num_steps=7)
    for epoch in range(epochs):
        for number, batch in enumerate(torch.randperm(len(x), generator=draw).split(64)):
            x_adv = attack(model.eval(), x[batch], y[batch], seed=1000 * epoch + number)
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(x_adv), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def accuracy(
    model: nn.Module, teacher: nn.Module, images: object, attack: tuple[str, dict] | None
) -> float:
    if attack is None:
        return evaluate(model, images, None).accuracy
    name, options = attack
    needed = ATTACKS[name].needs_model
    radius = {} if name == "pgd-unbounded" else {"eps": EPS}
    made = make_attack(name, **radius, **options, **({needed: teacher} if needed else {}))
    return evaluate(model, images, made).accuracy


def main(
    run: Annotated[Path, typer.Argument(help="The folder of a digits run.")],
    num_images: int = 200,
    json: Annotated[str | None, typer.Option(help="Write the figures here.")] = None,
) -> None:
    teacher, student = dfshield.load(run / "teacher"), dfshield.load(run / "student")
    models = {
        "teacher": teacher,
        "trained on real images": trained_on_real_images(teacher),
        "hardened without data": student,
    }
    images = load_images("digits").stratified(num_images, seed=0)
    found: dict[tuple[str, str], float] = {}
    rows = []
    for title, columns in TABLES.items():
        table = Table("Model", *columns, title=f"{title}: digits, l_inf {EPS}")
        for name, model in models.items():
            for column, attack in columns.items():
                if (name, column) not in found:
                    found[name, column] = 100 * accuracy(model, teacher, images, attack)
            shown = {column: round(found[name, column], 2) for column in columns}
            table.add_row(name, *(f"{value:.2f}" for value in shown.values()))
            rows.append({"table": title, "model": name, **shown})
        Console(width=120).print(table)
    if json:
        Path(json).write_text(encoder.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    typer.run(main)
