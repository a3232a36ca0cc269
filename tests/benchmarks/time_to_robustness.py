"""How little work gives the same robustness? Core-seconds against AutoAttack, setting by setting.

    python tests/benchmarks/time_to_robustness.py
    python tests/benchmarks/time_to_robustness.py --only full --only fast --seeds 1
    python tests/benchmarks/time_to_robustness.py --data cifar10 --seeds 1
    python tests/benchmarks/time_to_robustness.py --small

A setting (`recipes.py`) is a way to make surrogate images and a way to train on them; ``full`` is
the example's own. Of each: the processor's seconds of both stages, on one core (not the clock's, so
that a busy machine does not show; those of children count), and the student's accuracy, clean and
under AutoAttack. Teacher and evaluation are not counted. With ``cifar10`` all settings train on the
surrogate set of ``DFSHIELD_DATA``, and the training alone is counted.

A setting is *no worse* if its mean accuracy under AutoAttack, over the seeds, does not lie below
the 95 % interval of the full recipe's on that many test images. The cheapest such one is told.

It continues in ``--out`` where it stopped; a stage that was interrupted is done again whole, since
half of it has no seconds. With the defaults it takes hours on a core. ``--small`` rehearses it in a
minute: its figures mean nothing.
"""

import json as encoder
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.figure import Figure
from measuring import SMALL_DIGITS
from recipes import CASES, Case
from rich.console import Console
from rich.table import Table

from dfshield.config import Config, config_from, load_config
from dfshield.evaluation.intervals import wilson_interval
from dfshield.runs import Run, RunLayout

EXAMPLES = Path(__file__).parents[2] / "examples"
FULL = "full"


@dataclass(frozen=True)
class Student:
    """What a setting and a seed came to.

    Attributes:
        seconds: of the processor, in both stages.
        clean: accuracy in percent.
        autoattack: accuracy in percent.
    """

    seconds: float
    clean: float
    autoattack: float


@dataclass(frozen=True)
class Standing:
    """A setting over its seeds.

    Attributes:
        seconds: mean, of the processor.
        clean: mean accuracy in percent.
        autoattack: mean accuracy in percent.
        spread: standard deviation of that; None of one seed.
        no_worse: whether it does not lie below the interval of the full recipe's.
    """

    seconds: float
    clean: float
    autoattack: float
    spread: float | None
    no_worse: bool


def standings(found: dict[str, list[Student]], num_images: int) -> dict[str, Standing]:
    """Return what the settings come to, the full recipe among them."""
    full = fmean(student.autoattack for student in found[FULL])
    low, _ = wilson_interval(round(full / 100 * num_images), num_images)
    means = {name: _mean(students) for name, students in found.items()}
    return {
        name: Standing(
            **asdict(mean),
            spread=stdev(s.autoattack for s in found[name]) if len(found[name]) > 1 else None,
            no_worse=mean.autoattack >= 100 * low,
        )
        for name, mean in means.items()
    }


def cheapest(table: dict[str, Standing]) -> str:
    """Return the setting with the fewest seconds among those that are no worse."""
    return min((n for n, one in table.items() if one.no_worse), key=lambda n: table[n].seconds)


def _mean(students: list[Student]) -> Student:
    rows = [asdict(student) for student in students]
    return Student(**{key: fmean(row[key] for row in rows) for key in rows[0]})


class Study:
    """The runs of a case in a folder.

    Args:
        case: what is compared.
        out: where the runs lie.
        overrides: of all of them.
    """

    def __init__(self, case: Case, out: Path, overrides: tuple[str, ...]) -> None:
        self._case, self._out, self._overrides = case, out, overrides
        config = self._loaded(name="teacher")
        self.num_images = config.evaluation.num_images or case.test_images
        Run(config).run(["teacher"])
        self._teacher = RunLayout.of(config).teacher.path

    def student(self, setting: str, seed: int) -> Student:
        """Return what a setting comes to under a seed; what is known is not done again."""
        images, training = self._case.settings[setting]
        seconds = 0.0
        if self._case.data is None:
            making = self._config(f"images-{images}-{seed}", seed, self._case.images[images])
            seconds = self._measured(making, "synthesize")
            data = RunLayout.of(making).synthetic(seed).path
        else:
            data = self._case.data
        changes = (*self._case.trainings[training], f"training.data={data}")
        config = self._config(f"{setting}-{seed}", seed, changes)
        seconds += self._measured(config, "train")
        run = Run(config)
        run.run(["evaluate"])
        (results,) = run.results.values()
        accuracy = {result.label: 100 * result.accuracy for result in results}
        return Student(seconds, accuracy.pop("clean"), accuracy.popitem()[1])

    def _measured(self, config: Config, stage: str) -> float:
        """Do a stage, if it is not done, and return the processor's seconds that it took."""
        file = self._out / "seconds" / f"{config.name}.json"
        if not file.exists():
            shutil.rmtree(RunLayout.of(config).root.path, ignore_errors=True)
            begun = sum(os.times()[:4])
            Run(config).run([stage])
            file.parent.mkdir(parents=True, exist_ok=True)
            written = file.with_suffix(".tmp")
            written.write_text(encoder.dumps({stage: sum(os.times()[:4]) - begun}))
            written.replace(file)
        seconds: float = encoder.loads(file.read_text())[stage]
        return seconds

    def _config(self, name: str, seed: int, changes: tuple[str, ...]) -> Config:
        """Return the configuration of a run, whose teacher is that of all."""
        tree = self._loaded(*changes, name=name, seed=seed).model_dump(mode="json")
        tree["teacher"] = {"source": self._teacher}
        return config_from(tree)

    def _loaded(self, *changes: str, name: str, seed: int = 0) -> Config:
        own = (f"name={name}", f"seed={seed}", f"storage.path={self._out}")
        fixed = ("cluster.address=none", "trackers=[]", "evaluation.attacks=[autoattack]")
        fixed += ("evaluation.models=[student]",)
        overrides = [*self._case.changes, *changes, *self._overrides, *own, *fixed]
        return load_config(EXAMPLES / self._case.config, overrides)


def show(table: dict[str, Standing], case: Case, seeds: int) -> None:
    """Print the settings, the dearest first, and the cheapest that is no worse."""
    full = table[FULL].seconds
    shown = Table("Setting", "Core-seconds", "Times fewer", "Clean, %", "AutoAttack, %", "No worse")
    for name, one in sorted(table.items(), key=lambda item: -item[1].seconds):
        spread = "" if one.spread is None else f" ± {one.spread:.1f}"
        shown.add_row(
            name,
            f"{one.seconds:.1f}",
            f"{full / one.seconds:.2f}",
            f"{one.clean:.1f}",
            f"{one.autoattack:.1f}{spread}",
            "yes" if one.no_worse else "no",
        )
    Console(width=120).print(f"{case.config}, seeds: {seeds}", shown)
    Console(width=120).print(f"The cheapest that is no worse: {cheapest(table)}")


def draw(table: dict[str, Standing], file: Path) -> None:
    """Draw accuracy over core-seconds, a point a setting, joined in the order of their seconds."""
    ordered = sorted(table.items(), key=lambda item: item[1].seconds)
    seconds = [one.seconds for _, one in ordered]
    with mpl.rc_context({"svg.hashsalt": "dfshield"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(seconds, [one.clean for _, one in ordered], "s-", label="clean")
        spread = [one.spread or 0.0 for _, one in ordered]
        robust = [one.autoattack for _, one in ordered]
        axes.errorbar(seconds, robust, spread, fmt="o-", capsize=3, label="AutoAttack")
        for (name, _), x, y in zip(ordered, seconds, robust, strict=True):
            axes.annotate(name, (x, y), xytext=(3, 5), textcoords="offset points", fontsize=7)
        axes.set(xscale="log", xlabel="core-seconds of synthesis and training", ylabel="%")
        axes.legend()
        figure.savefig(file, dpi=120)


def main(
    out: Annotated[Path, typer.Option(help="Folder of all of it.")] = Path("runs/time"),
    data: Annotated[str, typer.Option(help=f"One of {', '.join(CASES)}.")] = "digits",
    only: Annotated[list[str] | None, typer.Option(help="A setting; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 0.", min=1)] = 3,
    small: Annotated[bool, typer.Option("--small", help="A rehearsal.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures of all seeds here.")] = None,
) -> None:
    if data not in CASES:
        raise typer.BadParameter(f"{data}: choose among {', '.join(CASES)}")
    case = CASES[data]
    for name in only or []:
        if name not in case.settings:
            raise typer.BadParameter(f"{name}: choose among {', '.join(case.settings)}")
    out = out.resolve() / data
    study = Study(case, out, SMALL_DIGITS if small else ())
    chosen = [name for name in case.settings if only is None or name in {FULL, *only}]
    found: dict[str, list[Student]] = {name: [] for name in chosen}
    for seed in range(seeds):
        for name in chosen:
            typer.echo(f"{name}, seed {seed}", err=True)
            found[name].append(study.student(name, seed))
    table = standings(found, study.num_images)
    show(table, case, seeds)
    draw(table, out / "curves.png")
    if json is not None:
        told: dict[str, Any] = {name: [asdict(s) for s in each] for name, each in found.items()}
        json.write_text(encoder.dumps({"students": told, "cheapest": cheapest(table)}, indent=2))


if __name__ == "__main__":
    typer.run(main)
