"""Tables 7, 16, 17 and 8 of the paper on digits: which objective hardens most, and what adds to it.

    python tests/benchmarks/training_objectives.py
    python tests/benchmarks/training_objectives.py --small

The sweep of ``examples/sweeps/digits-objectives.yaml``: six objectives on one set of diversified
samples, without GradRefine, then the ablation, cumulative from TRADES on samples of fixed
coefficients. Clean, under PGD-20 and under AutoAttack, mean and standard deviation over three seeds
of the training. Real images train the teacher and measure; nothing else.

It is a sweep in ``--out``: given again, the command continues where it stopped. With the defaults
it takes hours on a core. ``--small`` rehearses it in a minute: its figures mean nothing.
"""

import json as encoder
from pathlib import Path
from typing import Annotated

import typer
from measuring import SMALL_DIGITS
from rich.console import Console
from rich.table import Table

from dfshield.config import load_config
from dfshield.report.sweep import measures_of, settings_of
from dfshield.runs import InProcessExecutor
from dfshield.runs.sweep import InProcessRunner, Sweep, sweep_data

CONFIG = Path(__file__).parents[2] / "examples" / "sweeps" / "digits-objectives.yaml"
TABLES = {
    "Tables 7, 16 and 17: objectives, without GradRefine": {
        "STD": "std",
        "TRADES": "trades",
        "MART": "mart",
        "ARD": "ard",
        "RSLAD": "rslad",
        "L_DFShield": "dfshield",
    },
    "Table 8: ablation": {
        "fixed coefficients, TRADES": "fixed-trades",
        "+ L_DFShield": "fixed-dfshield",
        "+ DSS": "dfshield",
        "+ GradRefine": "gradrefine",
    },
}
"""The rows of every table, with the case that each is."""
SMALL = (
    *SMALL_DIGITS,
    "evaluation.attacks=[{name: pgd, num_steps: 20}]",
    "sweep.seeds=[0, 1]",
)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs"),
    small: Annotated[bool, typer.Option("--small", help="A rehearsal, in seconds.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures of all seeds here.")] = None,
) -> None:
    config = load_config(CONFIG, [f"storage.path={out}", *(SMALL if small else ())])
    executor = InProcessExecutor()
    sweep = Sweep(config, executor=executor, runner=InProcessRunner(executor))
    data = sweep_data(config, sweep.trials, sweep.run(), teacher={})
    settings = {setting.values["cases.recipe"]: setting for setting in settings_of(data)}
    measures = measures_of(data)
    for title, rows in TABLES.items():
        table = Table("", *(f"{measure.title}, %" for measure in measures))
        for name, case in rows.items():
            figures = [settings[case].figure(measure) for measure in measures]
            table.add_row(name, *("–" if figure is None else figure.words for figure in figures))
        Console(width=120).print(f"{title}, {len(config.sweep.seeds or ())} seeds", table)
    if json is not None:
        told = {
            case: {m.key: figure.per_seed for m in measures if (figure := setting.figure(m))}
            for case, setting in settings.items()
        }
        json.write_text(encoder.dumps(told, indent=2))


if __name__ == "__main__":
    typer.run(main)
