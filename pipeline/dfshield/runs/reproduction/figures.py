"""Figures of the paper, drawn of the students or the images of a sweep."""

from collections.abc import Callable, Mapping

from dfshield.experiments import Figure, FigureExperiment
from dfshield.report.reproduced_figure import Drawn, ReproducedFigure
from dfshield.runs.reproduction.cells import Reproduction
from dfshield.runs.reproduction.image_pictures import grid, plane
from dfshield.runs.reproduction.student_pictures import curves, matrix, surfaces
from dfshield.runs.sweep.sweep import Sweep
from dfshield.storage import Folder

_KINDS: Mapping[str, Callable[[Reproduction, FigureExperiment, Sweep, Folder], Drawn]] = {
    "matrix": matrix,
    "curves": curves,
    "surfaces": surfaces,
    "plane": plane,
    "grid": grid,
}


def reproduced_figure(
    found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder, *, command: str
) -> ReproducedFigure:
    """Run what is left of a figure; return it drawn.

    Args:
        found: the figure at a scale.
        experiment: the figure.
        sweep: that has its cells.
        out: the figure's own folder, which keeps what has been computed for it.
        command: that draws it, for the page.

    Raises:
        InputError: if no cell came to anything that could be drawn.
        DfshieldError: if the sweep cannot go on; what was done stays.
    """
    if experiment.of_images:
        sweep.make_sources()
    else:
        sweep.run()
    panels, findings = _KINDS[experiment.picture.kind](found, experiment, sweep, out)
    return ReproducedFigure(
        id=experiment.id,
        heading=experiment.heading,
        title=experiment.title,
        shows=experiment.shows,
        scale=found.scale.name,
        notes=(found.told, *_drawn_with(found, experiment), *lost_lines(experiment)),
        findings=tuple(findings),
        panels=tuple(panels),
        command=command,
    )


def _drawn_with(found: Reproduction, experiment: FigureExperiment) -> list[str]:
    """Return the options of the picture that depend on the scale, in a sentence."""
    options = experiment.options(found.scale)
    sized = [key for key, one in experiment.picture.options.items() if isinstance(one, dict)]
    words = ", ".join(f"{key.replace('_', ' ')} {options[key]:,}" for key in sized)
    return [f"Drawn with {words}."] if words else []


def lost_lines(experiment: Figure) -> list[str]:
    """Return what our copy of the paper lacks, a line each."""
    return [f"Not in our copy of the paper: {text}" for text in experiment.lost]
