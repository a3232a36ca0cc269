"""The commands that put several surrogate data sets side by side: `diversity` and `figure`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfshield.cli.execution import find_factories_here, new_observer, no_trace_of_matplotlib
from dfshield.cli.machine_output import print_json
from dfshield.cli.options import (
    AsJson,
    Features,
    RealImages,
    RealSplit,
    SampleSeed,
    SampleSize,
    Sets,
    TeacherFolder,
    TrustPython,
)
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.config import VariantConfig
    from dfshield.runs.comparison.inputs import Comparison
    from dfshield.storage import Folder

figure_app = typer.Typer(help="Pictures of several data sets or models.", no_args_is_help=True)

OutFolder = Annotated[str, typer.Option("--out", help="The folder that files are written to.")]


def diversity(
    sets: Sets,
    real: RealImages,
    split: RealSplit = "train",
    features: Features = "teacher",
    teacher: TeacherFolder = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="neighbours (recall, coverage) or bins (NDB, JSD), or one with options, as "
            "'{name: bins, num_bins: 50}'; may be repeated. All by default.",
        ),
    ] = None,
    num_images: SampleSize = None,
    seed: SampleSeed = 0,
    out: OutFolder = "diversity",
    trust_python: TrustPython = False,
    as_json: AsJson = False,
) -> None:
    """Tell how well the images of several sets cover real ones: recall, coverage, NDB, JSD.

    This looks at real images, so it is for measuring alone, like evaluate: nothing that is made or
    chosen without data may depend on it. Only the order of sets measured alike means something.
    Table and picture are written to the folder too, as JSON, CSV, PNG and SVG.

    Example: dfshield diversity runs/fixed runs/digits --real digits --num-images 1000
    """
    from dfshield.config.families import reference

    names = metric or list(reference())
    metrics = [_variant(text, reference, "--metric") for text in names]
    with _comparison(locals()) as compared:
        from dfshield.runs.comparison.measuring import measured

        built = [reference().make(each.name, **each.options) for each in metrics]
        found = measured(compared, built)
        from dfshield.report.sets import score_bars, score_table

        folder, stem = _folder(out), f"diversity-{found['features']['name']}"
        folder.write_json(f"{stem}.json", found)
        folder.write_bytes(f"{stem}.csv", score_table(found))
        for form, picture in score_bars(found).items():
            folder.write_bytes(f"{stem}.{form}", picture)
    if as_json:
        print_json(found)
    else:
        _print_scores(found)
        typer.echo(f"Written: {folder}/{stem}.json, .csv, .png, .svg")


@figure_app.command("grid")
def figure_grid(
    sets: Sets,
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="Images of each class.")] = 4,
    stretch: Annotated[
        bool,
        typer.Option("--stretch", help="Scale every image to its own range, which the page says."),
    ] = False,
    out: OutFolder = "figures",
) -> None:
    """Show the first images of every class of several sets on one page, those of DSS last.

    One scale for all; seed and method stand above each set. As PNG and SVG, with a CSV of which
    images these are.

    Example: dfshield figure grid runs/fixed runs/digits --per-class 3
    """
    with no_trace_of_matplotlib():
        from dfshield.report.sets import SetImages, image_page, image_table
        from dfshield.runs.comparison.pictures import first_images
        from dfshield.runs.inputs.surrogate_sets import surrogate_sets

        shown = [
            SetImages(each.name, each.method, each.manifest.seed, first_images(each, per_class))
            for each in surrogate_sets(sets)
        ]
        page = image_page(shown, per_class=per_class, stretch=stretch)
        write_picture(out, "grid", png=page.png(), svg=page.svg(), csv=image_table(shown))


@figure_app.command("pca")
def figure_pca(
    sets: Sets,
    real: RealImages,
    split: RealSplit = "train",
    features: Features = "teacher",
    teacher: TeacherFolder = None,
    num_images: SampleSize = None,
    seed: SampleSeed = 0,
    out: OutFolder = "figures",
    trust_python: TrustPython = False,
) -> None:
    """Show where several sets lie in the plane in which real features vary most, DSS last.

    A principal component analysis is fitted on the features of the real images alone; 2,000 points
    of each set are drawn at most. As PNG and SVG, with the coordinates as CSV.

    Example: dfshield figure pca runs/fixed runs/digits --real digits
    """
    with _comparison(locals()) as compared:
        from dfshield.report.sets import plane_figure, plane_table
        from dfshield.runs.comparison.pictures import plane

        view, told = plane(compared), f"{compared.settings['name']} features"
        write_picture(out, "pca", **plane_figure(view, told), csv=plane_table(view))


@contextmanager
def _comparison(given: dict[str, Any]) -> "Iterator[Comparison]":
    """Give what the arguments of a command compare, for the block."""
    find_factories_here()
    from dfshield.cli.others import data_of, images_of
    from dfshield.config.families import features

    space = _variant(given["features"], features, "--features", build=False)
    data = data_of(given["real"], option="--real")
    with no_trace_of_matplotlib(), closing(new_observer()) as observer:
        from dfshield.runs.comparison.inputs import comparison
        from dfshield.runs.inputs.surrogate_sets import surrogate_sets

        sets = surrogate_sets(given["sets"])
        images = images_of(data, split=given["split"], option="--real")
        yield comparison(
            sets,
            images,
            space,
            teacher=given["teacher"],
            trust_python=given["trust_python"],
            num_images=given["num_images"],
            seed=given["seed"],
            observer=observer,
        )


def _variant(text: str, family: Any, option: str, *, build: bool = True) -> "VariantConfig":
    """Return the variant of a family that an option names, as a configuration would.

    Raises:
        InputError: naming the option.
    """
    from dfshield.config import variant_from

    try:
        return variant_from(text, family, build=build)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def _folder(out: str) -> "Folder":
    from dfshield.storage import Folder

    return Folder.at(out)


def write_picture(out: str, stem: str, **contents: Any) -> None:
    """Write a picture and its numbers, and say where they are; what is no bytes becomes JSON."""
    folder = _folder(out)
    for suffix, content in contents.items():
        write = folder.write_bytes if isinstance(content, bytes) else folder.write_json
        write(f"{stem}.{suffix}", content)
    others = ", ".join(f".{suffix}" for suffix in list(contents)[1:])
    typer.echo(f"Written: {folder}/{stem}.{next(iter(contents))}, {others}")


def _print_scores(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from dfshield.report.sets import format_score, settings_line

    console = Console(highlight=False)
    remarks = "".join(f"\nNote: {escape(remark)}." for remark in found["remarks"])
    table = Table(
        title="Measured on real images",
        caption=f"{escape(settings_line(found))}{remarks}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("Set", overflow="fold")
    table.add_column("Method", overflow="fold")
    table.add_column("M", justify="right")
    for score in found["scores"].values():
        table.add_column(f"{score['title']} {'↑' if score['better'] == 'higher' else '↓'}")
    for each in found["sets"]:
        values = [
            format_score(each["values"][key], score["unit"])
            for key, score in found["scores"].items()
        ]
        table.add_row(
            escape(each["name"]), escape(each["method"]), f"{each['num_images']:,}", *values
        )
    console.print(table)
