"""Pictures of surrogate images: sets side by side, and in the plane of real features."""

from collections.abc import Iterator
from dataclasses import replace

from dfshield.experiments import Cell, FigureExperiment
from dfshield.report.reproduced_figure import Drawn, Panel
from dfshield.report.sets import SetImages, image_page, image_table, plane_figure, plane_table
from dfshield.runs.comparison.pictures import first_images
from dfshield.runs.comparison.pictures import plane as plane_of
from dfshield.runs.inputs.surrogate_sets import SurrogateSet
from dfshield.runs.reproduction.cells import Reproduction
from dfshield.runs.reproduction.sets import compared_with_real, sets_by_place
from dfshield.runs.sweep.plan import source_key
from dfshield.runs.sweep.sweep import Sweep
from dfshield.runs.sweep.trial import Source
from dfshield.storage import Folder


def grid(found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder) -> Drawn:
    """Return the first images of every class of sets; option ``per_class`` says how many."""
    del out
    per_class = experiment.options(found.scale)["per_class"]
    panels = []
    for cell, _, sets in _places(found, experiment, sweep):
        shown = [
            SetImages(one.name, one.method, one.manifest.seed, first_images(one, per_class))
            for one in sets
        ]
        page = image_page(shown, per_class=per_class)
        alt = "Images of every class, a block for each way to make them"
        panels.append(Panel(_name(cell), alt, page.png(), page.svg(), image_table(shown)))
    return panels, []


def plane(found: Reproduction, experiment: FigureExperiment, sweep: Sweep, out: Folder) -> Drawn:
    """Return sets in the plane of real training features; option ``num_images`` of each."""
    del out
    num_images = experiment.options(found.scale)["num_images"]
    panels = []
    for cell, source, sets in _places(found, experiment, sweep):
        place = cell, source
        compared = compared_with_real(found, sweep, place, sets, num_images=num_images)
        view = plane_of(compared)
        pictures = plane_figure(view, "teacher features")
        alt = "Scatter of two principal components, a panel a set over the real images"
        panels.append(Panel(_name(cell), alt, **pictures, csv=plane_table(view)))
    return panels, []


def _places(
    found: Reproduction, experiment: FigureExperiment, sweep: Sweep
) -> Iterator[tuple[Cell, Source, list[SurrogateSet]]]:
    """Give a cell of every place with its source, and the sets there under the names of cells."""
    names = {
        source_key(found.trials[name][0].config): ", ".join(
            str(cell.keys[field]) for field in experiment.fields
        )
        for cell, name in zip(found.cells, found.names, strict=True)
    }
    for cell, source, sets in sets_by_place(found, sweep):
        yield cell, source, [replace(one, name=names[one.name]) for one in sets]


def _name(cell: Cell) -> str:
    return f"{cell.place.data}-{cell.place.model}"
