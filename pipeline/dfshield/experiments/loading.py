"""Reading experiments and scales from their files, which are part of the package."""

from functools import cache
from importlib.resources import files

import yaml

from dfshield.checks import one_of
from dfshield.errors import InputError
from dfshield.experiments.experiment import Experiment
from dfshield.experiments.figure import Figure, FigureExperiment
from dfshield.experiments.parts import Scale
from dfshield.experiments.table import TableExperiment
from dfshield.experiments.toy import ToyExperiment

SCALES = ("smoke", "desk", "paper")
"""From minutes on two cores to the paper's own sizes."""
EXPERIMENT_IDS = (
    *("table-1", "table-3", "table-4", "table-5", "table-6", "table-7", "table-8", "table-9"),
    *("table-10", "table-11", "table-12", "table-13", "table-14", "table-15", "table-16"),
    *("table-17", "table-18", "table-19", "table-20", "table-21", "table-22", "table-23"),
    *("table-24", "table-25", "table-26"),
    *("fig-1", "fig-3", "fig-4", "fig-5", "fig-6", "fig-7", "fig-8", "fig-9", "fig-10", "fig-11"),
    *("fig-12", "fig-13", "fig-14"),
)
"""The tables and figures that can be run, in the paper's order."""

NOT_RUN = {
    "table-2": "it has no numbers: it names the losses of the baselines",
    "fig-2": "it is a drawing of the method",
}
"""The other tables and figures, each with the reason why it cannot be run."""


@cache
def experiment(experiment_id: str) -> Experiment:
    """Return the experiment of a table or a figure.

    Args:
        experiment_id: one of `EXPERIMENT_IDS`.

    Raises:
        InputError: for any other, with the reason where it is not run, else naming the nearest.
    """
    if experiment_id in NOT_RUN:
        raise InputError(f"{experiment_id}: cannot be run: {NOT_RUN[experiment_id]}")
    name = one_of(EXPERIMENT_IDS, experiment_id, "ID")
    if name.startswith("table-"):
        return TableExperiment.model_validate({"id": name, **_read(f"tables/{name}.yaml")})
    found = {"id": name, **_read(f"figures/{name}.yaml")}
    kind: type[Figure] = ToyExperiment if "toy" in found else FigureExperiment
    return kind.model_validate(found)


@cache
def scale(name: str) -> Scale:
    """Return a scale.

    Args:
        name: one of `SCALES`.

    Raises:
        InputError: for any other, naming the nearest.
    """
    known = one_of(SCALES, name, "--scale")
    return Scale.model_validate({"name": known, **_read(f"scales/{known}.yaml")})


def _read(path: str) -> dict[str, object]:
    text = (files("dfshield.experiments") / path).read_text(encoding="utf-8")
    found: dict[str, object] = yaml.safe_load(text)
    return found


def file_source(name: str) -> str:
    """Return where a data set or a file comes from; empty where that is not known."""
    return str(_read("files.yaml").get(name, ""))
