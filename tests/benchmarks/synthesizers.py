"""Table 6 of the paper on digits: which surrogate images does a student learn most from?

    python tests/benchmarks/synthesizers.py
    python tests/benchmarks/synthesizers.py --only dss --only qimera --seeds 1 --test-images 100

A row is a way to make surrogate images of one teacher: direct optimisation with fixed coefficients,
augmentations of the images of ``--augment``, generators, IntraQ, diversified sample synthesis. Of
each: how many images the teacher gives their label (all of RDSKD's, by construction), how they
cover the real training images (recall, coverage, NDB, JSD, on the teacher's features), and the
accuracy of a student that is trained on them without GradRefine, clean and under AutoAttack. Mean
and standard deviation over the seeds. Real images measure, and train the teacher; nothing else.

Each row and seed is a run in ``--out``: given again, the command continues where it stopped. With
the defaults it takes hours on a core; fewer ``--test-images``, ``--seeds`` and ``--epochs`` make it
shorter. Other settings want another ``--out``.
"""

import json as encoder
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dfshield.config import VariantConfig, config_from
from dfshield.datasets import load_images
from dfshield.diversity.reference import REFERENCE
from dfshield.runs import Run, SilentObserver
from dfshield.runs.comparison.inputs import comparison
from dfshield.runs.comparison.measuring import measured
from dfshield.runs.inputs.surrogate_sets import surrogate_sets
from dfshield.storage import SurrogateDataset
from dfshield.storage.arrays import num_agreeing

EPS = 0.1
TEACHER = {
    "source": "dfshield:resnet8",
    "options": {"width": 8},
    "input_shape": [1, 8, 8],
    "train": {
        "data": {"name": "digits"},
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 0.005,
        "select": "last",
    },
}
AUGMENTED = ("mixup", "cutout", "cutmix")
ROWS = ("fixed", *AUGMENTED, "qimera", "rdskd", "intraq", "dss")
"""In the order of the paper's table."""
COLUMNS = {
    "agreement": ("Agreement", 1),
    "recall": ("Recall ↑", 3),
    "coverage": ("Coverage ↑", 3),
    "ndb": ("NDB ↓", 1),
    "jsd": ("JSD ↓", 3),
    "clean": ("Clean", 1),
    "autoattack": ("AutoAttack", 1),
}


def method_of(row: str, *, iterations: int, fit_steps: int, width: int) -> dict[str, Any]:
    """Return the synthesizer of a row that is no augmentation."""
    direct = {"iterations": iterations, "labels": "random"}
    fitted = {"fit_batch_size": 200, "width": width}
    return {
        "dss": {"name": "dss", "jitter": 0, **direct},
        "fixed": {"name": "dss", "jitter": 0, "coefficients": {"rule": "fixed"}, **direct},
        "intraq": {"name": "intraq", **direct},
        "qimera": {"name": "qimera", "fit_iterations": fit_steps, **fitted},
        "rdskd": {
            "name": "rdskd",
            "epochs": 20,
            "iterations_per_epoch": max(1, fit_steps // 20),
            **fitted,
        },
    }[row]


def settings(
    row: str, seed: int, out: Path, synthesis: dict[str, Any], *, epochs: int, test_images: int
) -> dict[str, Any]:
    """Return the configuration of a run."""
    batch = synthesis["batch_size"]
    return {
        "name": name_of(row, seed),
        "seed": seed,
        "teacher": {"source": str(out / "teacher" / "teacher")},
        "threat": {"norm": "linf", "eps": EPS},
        "synthesis": synthesis,
        "training": {
            "epochs": epochs,
            "batch_size": 50,
            "learning_rate": 0.004,
            "gradrefine": {"num_batches": 1},
        },
        "evaluation": {
            "data": {"name": "digits"},
            "num_images": test_images,
            "models": ["student"],
            "attacks": [{"name": "autoattack"}],
            "slice_size": 500,
        },
        "storage": {"path": str(out), "part_size": batch, "shard_size": 10 * batch},
        "cluster": {"address": "none"},
        "trackers": [],
    }


def name_of(row: str, seed: int) -> str:
    return f"{row}-{seed}"


def teacher_in(out: Path) -> None:
    """Train the teacher, once."""
    tree = {"name": "teacher", "teacher": TEACHER, "storage": {"path": str(out)}, "trackers": []}
    Run(config_from(tree)).run(["teacher"])


def finished(config: dict[str, Any]) -> dict[str, float]:
    """Do a run, or what is left of it; return what its student and its images come to, in %."""
    run = Run(config_from(config))
    run.run(["synthesize", "train", "evaluate"])
    (results,) = run.results.values()
    accuracy = {result.label: 100 * result.accuracy for result in results}
    images = SurrogateDataset.open(run.context.layout.synthetic(config["seed"])).load()
    agreeing = num_agreeing(images.labels.numpy(), images.teacher_logits.numpy())
    return {
        "agreement": 100 * agreeing / len(images),
        "clean": accuracy.pop("clean"),
        "autoattack": accuracy.popitem()[1],
    }


def covered(names: list[str], out: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Give the values of every set against the real training images."""
    compared = comparison(
        surrogate_sets([str(out / name) for name in names]),
        load_images("digits", split="train"),
        VariantConfig(name="teacher"),
        teacher=str(out / "teacher"),
        trust_python=False,
        num_images=None,
        seed=0,
        observer=SilentObserver(),
    )
    for each in measured(compared, [REFERENCE.make(name) for name in REFERENCE])["sets"]:
        yield each["name"], each["values"]


def show(found: dict[str, dict[str, float]], rows: list[str], seeds: range) -> None:
    """Print mean and standard deviation of every row."""
    table = Table("Images", *(title for title, _ in COLUMNS.values()))
    for row in rows:
        cells = []
        for key, (_, digits) in COLUMNS.items():
            values = [found[name_of(row, seed)][key] for seed in seeds]
            spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.{digits}f}{spread}")
        table.add_row(row, *cells)
    Console(width=140).print(f"Table 6 on digits, l_inf {EPS}, {len(seeds)} seeds", table)


def main(
    out: Path = Path("runs/table6"),
    only: Annotated[list[str] | None, typer.Option(help="A row; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0.", min=1)] = 3,
    images: Annotated[int, typer.Option(help="In each set.")] = 2000,
    holdout: int = 200,
    iterations: Annotated[int, typer.Option(help="Of dss, fixed, intraq.")] = 500,
    fit_steps: Annotated[int, typer.Option(help="Of qimera, rdskd; 20 or more.", min=20)] = 2000,
    width: Annotated[int, typer.Option(help="Channels of the generators.")] = 64,
    epochs: Annotated[int, typer.Option(help="Of a student.")] = 20,
    test_images: int = 500,
    augment: Annotated[str, typer.Option(help="The row whose images are augmented.")] = "dss",
    json: Annotated[Path | None, typer.Option(help="Write the figures of all runs here.")] = None,
) -> None:
    out = out.resolve()
    for row in [augment, *(only or [])]:
        if row not in ROWS or (row == augment and row in AUGMENTED):
            raise typer.BadParameter(f"{row}: choose among {', '.join(ROWS)}")
    chosen = [row for row in ROWS if only is None or row in only]
    batch = min(200, images)
    common = {"num_images": images, "num_holdout": holdout, "batch_size": batch}
    made_by = {"iterations": iterations, "fit_steps": fit_steps, "width": width}
    teacher_in(out)
    # What others are augmented from comes first.
    needed = {*chosen, *([augment] if {*chosen} & {*AUGMENTED} else [])}
    order = sorted((row for row in ROWS if row in needed), key=AUGMENTED.count)
    found: dict[str, dict[str, float]] = {}
    for seed in range(seeds):
        for row in order:
            name = name_of(row, seed)
            typer.echo(name, err=True)
            source: dict[str, Any]
            if row in AUGMENTED:
                source = {"augment": row, "data": str(out / name_of(augment, seed))}
            else:
                source = {"method": method_of(row, **made_by)}
            config = settings(
                row, seed, out, {**common, **source}, epochs=epochs, test_images=test_images
            )
            found[name] = finished(config)
    for name, values in covered(list(found), out):
        found[name] |= values
    show(found, chosen, range(seeds))
    if json is not None:
        given = {**common, **made_by, "epochs": epochs, "test_images": test_images}
        told = {"settings": {**given, "seeds": seeds, "augment": augment}, "runs": found}
        json.write_text(encoder.dumps(told, indent=2))


if __name__ == "__main__":
    typer.run(main)
