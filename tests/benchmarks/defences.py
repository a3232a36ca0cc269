"""Table 3 of the paper on digits: three test-time defences beside the hardened student.

    python tests/benchmarks/defences.py [--seeds 0,1,2] [--num-images 100] [--json FILE]
    python tests/benchmarks/defences.py --small

The teacher of ``examples/digits.yaml`` behind ``tte``, ``dad`` and ``diffpure``, and its student,
on the same test images. *Not adaptive*: AutoAttack on the teacher, whose images are tried on what
is defended. *Adaptive*: the stronger of PGD-20 and AutoAttack through the defence (BPDA for
``dad``, the mean over 20 draws for ``diffpure``, AutoAttack's ``rand``). The gap between the two
columns is what an evaluation that does not know of the defence overrates it by. Mean and standard
deviation over seeds of everything: teacher, student, networks of the defences, attacks.

The detector of ``dad`` is trained on ten textures and their classifier, and adapted to the test
logits under the threat's PGD, as published; ``diffpure`` has a score network of the training split,
t 0.1 and 5 steps back. Runs and networks lie in ``--out``: given again, the command goes on where
it stopped. An hour on a core for 100 images and a seed. ``--small`` rehearses it in a minute.
"""

import json as encoder
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from measuring import SMALL_DIGITS

from dfshield.classifiers import load
from dfshield.config import Config, load_config
from dfshield.datasets import load_images
from dfshield.epsilon import parse_epsilon
from dfshield.evaluation import EvaluationResult
from dfshield.results import WORST_CASE
from dfshield.runs import Run, SilentObserver
from dfshield.runs.fitted_defences import Shown, fit_detector, fit_score
from dfshield.storage import Folder

CONFIG = Path(__file__).parents[2] / "examples" / "digits.yaml"
ATTACKS = (
    "{name: transfer, inner: autoattack}",
    "{name: pgd, num_steps: 20}",
    "{name: autoattack}",
)
ROWS = ("teacher", "teacher, tte", "teacher, dad", "teacher, diffpure", "student")
COLUMNS = ("clean", "not adaptive", "adaptive", "gap")
SMALL = (*SMALL_DIGITS, "evaluation.attacks=[{name: transfer}, {name: pgd, num_steps: 2, eot: 2}]")

Figures = dict[str, dict[str, float | None]]
"""Of a seed: by row and column, in percent."""


def textures(out: Path) -> Path:
    """Write ten textures under noise, which are the other data set of ``dad``."""
    path = out / "textures.npz"
    if not path.exists():
        draw = np.random.default_rng(5)
        labels = np.arange(2000) % 10
        clean = 0.3 + 0.4 * draw.random((10, 8, 8))[labels]
        images = (clean + 0.15 * draw.standard_normal(clean.shape)).clip(0, 1).astype(np.float32)
        out.mkdir(parents=True, exist_ok=True)
        split = {"train": slice(1000), "val": slice(1000, 1500), "test": slice(1500, None)}
        arrays = {
            f"{name}_{kind}": values[rows]
            for name, rows in split.items()
            for kind, values in (("images", images), ("labels", labels))
        }
        np.savez(path, **arrays)
    return path


def networks(config: Config, out: Path, seed: int, *, epochs: int) -> tuple[Path, Path]:
    """Return the files of the detector and of the score network, fitted where they are not yet."""
    root = out / config.name
    score, detector = root / "score.safetensors", root / "detector.safetensors"
    common = {"observer": SilentObserver(), "seed": seed}
    if not score.exists():
        images = load_images("digits", split="train")
        fit_score(
            images,
            out=Folder.at(score),
            width=32,
            epochs=epochs,
            batch_size=64,
            learning_rate=2e-3,
            **common,
        )
    if not detector.exists():
        path = textures(out)
        data = f"teacher.train.data={{name: npz, path: {path}}}"
        other = load_config(CONFIG, [f"storage.path={out}", "name=textures", data])
        Run(other).run(("teacher",))
        fit_detector(
            Shown(load(out / "textures" / "teacher"), load_images("npz", split="train", path=path)),
            Shown(load(root / "teacher"), load_images("digits", split="test")),
            out=Folder.at(detector),
            eps=parse_epsilon(config.threat.eps),
            norm=config.threat.norm,
            num_steps=10,
            **common,
        )
    return detector, score


def figures(results: Sequence[EvaluationResult]) -> Figures:
    """Return the figures of a seed."""
    found: Figures = {}
    for row in ROWS:
        model, _, defence = row.partition(", ")
        mine = [
            result
            for result in results
            if result.model.partition("+")[0] == model
            and (result.defence or {}).get("name", "") == defence
        ]
        clean = _least(mine, lambda result: result.attack is None)
        told = {"clean": clean, "not adaptive": None, "gap": None}
        known = _least(mine, lambda result: _is_attack(result) and result.adaptive is not False)
        if defence:
            blind = _least(mine, lambda result: result.adaptive is False)
            assert blind is not None
            assert known is not None
            told |= {"not adaptive": blind, "gap": blind - known}
        found[row] = {**told, "adaptive": known}
    return found


def _is_attack(result: EvaluationResult) -> bool:
    """Tell whether a result is of one attack, and not of images of another model."""
    return result.attack is not None and result.attack["name"] not in ("transfer", WORST_CASE)


def _least(
    results: Sequence[EvaluationResult], wanted: Callable[[EvaluationResult], bool]
) -> float | None:
    return min((100 * result.accuracy for result in results if wanted(result)), default=None)


def words(values: Sequence[float | None]) -> str:
    """Return mean and standard deviation in words."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def measured(seed: int, out: Path, num_images: int, *, small: bool) -> Figures:
    """Make and measure everything of a seed, as far as it is not there."""
    common = [f"name=defences-{seed}", f"seed={seed}", f"storage.path={out}"]
    common += [*SMALL] if small else [f"evaluation.attacks=[{', '.join(ATTACKS)}]"]
    common += [] if small else [f"evaluation.num_images={num_images}", "evaluation.slice_size=25"]
    config = load_config(CONFIG, common)
    Run(config).run(("teacher",))
    detector, score = networks(config, out, seed, epochs=2 if small else 30)
    defences = [
        "{name: tte}",
        f"{{name: dad, detector: {detector}}}",
        f"{{name: diffpure, score: {score}, step: 0.02}}",
    ]
    run = Run(load_config(CONFIG, [*common, f"evaluation.defences=[{', '.join(defences)}]"]))
    run.run()
    return figures(run.results[seed])


def main(
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/defences"),
    seeds: Annotated[str, typer.Option(help="Of everything, as in 0,1,2.")] = "0,1,2",
    num_images: int = 100,
    small: Annotated[bool, typer.Option("--small", help="A rehearsal, in a minute.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures of all seeds here.")] = None,
) -> None:
    chosen = [int(seed) for seed in seeds.split(",")]
    found = {seed: measured(seed, out, num_images, small=small) for seed in chosen}
    print(f"| digits, l_inf 0.1, {len(chosen)} seeds | {' | '.join(COLUMNS)} |")
    print(f"|---{'|---' * len(COLUMNS)}|")
    for row in ROWS:
        shown = [words([found[seed][row][column] for seed in chosen]) for column in COLUMNS]
        print(f"| {row} | {' | '.join(shown)} |")
    if json is not None:
        json.write_text(encoder.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
