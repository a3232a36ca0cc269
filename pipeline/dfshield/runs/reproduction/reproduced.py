"""A table or a figure from its cells to its pages."""

from collections.abc import Callable

from dfshield.experiments import (
    EXPERIMENT_IDS,
    FigureExperiment,
    Scale,
    TableExperiment,
    ToyExperiment,
    experiment,
)
from dfshield.report.reproduced import ReproducedTable, index_page
from dfshield.report.reproduced_figure import ReproducedFigure
from dfshield.runs.names import PAGE
from dfshield.runs.reproduction.cells import Reproduction, reproduced_folder
from dfshield.runs.reproduction.figures import reproduced_figure
from dfshield.runs.reproduction.tables import reproduced_table
from dfshield.runs.reproduction.toy import reproduced_toy
from dfshield.runs.sweep.sweep import Sweep
from dfshield.runs.watching.events import Observer
from dfshield.storage import Folder


def reproduce(
    found: Reproduction, sweep: Callable[[], Sweep], *, observer: Observer, command: str
) -> tuple[ReproducedTable | ReproducedFigure, Folder]:
    """Run what is left of a table or a figure and write its pages and the index.

    Args:
        found: what it is.
        sweep: gives the sweep that has its cells, if it has any.
        observer: who watches.
        command: that runs it, for the page.

    Returns:
        What came out, and the folder that it was written to.

    Raises:
        DfshieldError: if it cannot go on; what was done stays.
    """
    every = reproduced_folder(found.config)
    folder, one = every.child(found.experiment.id), found.experiment
    result: ReproducedTable | ReproducedFigure
    if isinstance(one, TableExperiment):
        result = reproduced_table(found, one, sweep(), command=command)
    elif isinstance(one, FigureExperiment):
        result = reproduced_figure(found, one, sweep(), folder, command=command)
    else:
        assert isinstance(one, ToyExperiment)
        result = reproduced_toy(found.scale, one, observer, command=command)
    for name, content in result.files.items():
        folder.write_bytes(name, content)
    every.write_bytes(PAGE, _index(found.scale, every).encode())
    return result, folder


def _index(scale: Scale, every: Folder) -> str:
    done = [experiment(name) for name in EXPERIMENT_IDS if every.exists(f"{name}/{PAGE}")]
    return index_page(scale, [(one.id, one.heading, one.about) for one in done])
