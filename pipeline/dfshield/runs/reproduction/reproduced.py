"""A table or a figure from its cells to its pages."""

from dfshield.experiments import (
    EXPERIMENT_IDS,
    FigureExperiment,
    Scale,
    TableExperiment,
    experiment,
)
from dfshield.report.reproduced import ReproducedTable, index_page
from dfshield.report.reproduced_figure import ReproducedFigure
from dfshield.runs.names import PAGE
from dfshield.runs.reproduction.cells import Reproduction
from dfshield.runs.reproduction.figures import reproduced_figure
from dfshield.runs.reproduction.tables import reproduced_table
from dfshield.runs.sweep.sweep import Sweep
from dfshield.storage import Folder

REPRODUCED = "reproduced"
"""In the folder of the run: a folder for every table and figure, and a page that links them."""


def reproduce(
    found: Reproduction, sweep: Sweep, *, command: str
) -> tuple[ReproducedTable | ReproducedFigure, Folder]:
    """Run what is left of a table or a figure and write its pages and the index.

    Args:
        found: what it is.
        sweep: that has its cells.
        command: that runs it, for the page.

    Returns:
        What came out, and the folder that it was written to.

    Raises:
        DfshieldError: if it cannot go on; what was done stays.
    """
    every = sweep.run_layout.root.child(REPRODUCED)
    folder, one = every.child(found.experiment.id), found.experiment
    result: ReproducedTable | ReproducedFigure
    if isinstance(one, TableExperiment):
        result = reproduced_table(found, one, sweep, command=command)
    else:
        assert isinstance(one, FigureExperiment)
        result = reproduced_figure(found, one, sweep, folder, command=command)
    for name, content in result.files.items():
        folder.write_bytes(name, content)
    every.write_bytes(PAGE, _index(found.scale, every).encode())
    return result, folder


def _index(scale: Scale, every: Folder) -> str:
    done = [experiment(name) for name in EXPERIMENT_IDS if every.exists(f"{name}/{PAGE}")]
    return index_page(scale, [(one.id, one.heading, one.about) for one in done])
