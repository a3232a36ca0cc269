"""The command `figure surface`: the loss around the weights of several models."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfshield.cli.comparing import OutFolder, write_picture
from dfshield.cli.execution import (
    executor_of,
    find_factories_here,
    new_observer,
    no_trace_of_matplotlib,
)
from dfshield.cli.options import RealSplit, TrustPython
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.datasets import ImageSet
    from dfshield.report.surface import SurfaceView

_RADII = (0.25, 0.5, 1.0)
"""Of the circles over which the rise is averaged, as shares of the span."""


def figure_surface(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Runs, which stand for their students, or folders of models, such as "
            "runs/digits/teacher.",
            metavar="MODEL...",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data", help="Real images: NAME, NAME:PATH, an .npz file or a folder of classes."
        ),
    ],
    split: RealSplit = "test",
    num_images: Annotated[
        int, typer.Option("--num-images", min=1, help="Size of a stratified sample.")
    ] = 200,
    eps: Annotated[str, typer.Option(help="Radius of the ball; 0: the loss on clean images.")] = (
        "8/255"
    ),
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    num_steps: Annotated[int, typer.Option("--num-steps", min=1, help="Of PGD.")] = 10,
    points: Annotated[int, typer.Option(min=3, help="Of each axis, an odd number.")] = 51,
    span: Annotated[float, typer.Option(help="The axes reach from -SPAN to SPAN.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of directions, starts and sample.")] = 0,
    cluster: Annotated[
        str,
        typer.Option(help="none: this process; local, auto, host:port: a Ray's workers."),
    ] = "none",
    out: OutFolder = "figures",
    trust_python: TrustPython = False,
) -> None:
    """Show the loss around the weights of models, along two filter-normalised random directions.

    The cross-entropy of real images under PGD, in eval mode (Li et al., 2018; figures 4, 6 and 7).
    All models have the same draws, the same images and one scale; of each, the mean rise on circles
    is told. It measures on real images, so nothing that is made without data may depend on it. Rows
    that are done are kept in the folder: given again, the command goes on.

    Example: dfshield figure surface runs/digits runs/digits/teacher --data digits --eps 0.1
    """
    if points % 2 == 0:
        raise InputError(f"--points: {points} must be odd: the weights themselves are one of them")
    if not 0 < span < float("inf"):
        raise InputError(f"--span: {span:g} must be a number above 0")
    find_factories_here()
    with no_trace_of_matplotlib():
        from dfshield.report.surface import surface_figure, surface_table

        views, told = _surfaces(locals())
        what = told["loss"]["words"]
        pictures = surface_figure(views, what)
        write_picture(out, "surface", **pictures, csv=surface_table(views), json=told)
    for view in views:
        rises = ", ".join(f"{rise:+.3g} at {radius:g}" for radius, rise in view.rises.items())
        typer.echo(f"{view.name}: {what} {view.centre:.3g}; mean rise {rises}")


def _surfaces(given: dict[str, Any]) -> "tuple[tuple[SurfaceView, ...], dict[str, Any]]":
    """Return the surfaces that the arguments of the command ask for, and how they were made."""
    from dfshield.config import ClusterConfig
    from dfshield.epsilon import parse_epsilon
    from dfshield.evaluation.surface import AdversarialLoss
    from dfshield.report.surface import finite
    from dfshield.runs.comparison.surfaces import loss_surfaces
    from dfshield.runs.inputs.classifier_folder import named_classifier
    from dfshield.storage import Folder

    loss = AdversarialLoss(
        parse_epsilon(given["eps"], key="--eps"), given["norm"], given["num_steps"]
    )
    images = _images(given)
    trust = given["trust_python"]
    models = [(m, named_classifier(m, key=m, trust_python=trust)) for m in given["models"]]
    out, where = Folder.at(given["out"]), ClusterConfig(address=given["cluster"])
    with closing(new_observer()) as observer, executor_of(where, out, observer) as executor:
        views = loss_surfaces(
            models,
            images,
            loss=loss,
            points=given["points"],
            span=given["span"],
            radii=[given["span"] * share for share in _RADII],
            seed=given["seed"],
            executor=executor,
            observer=observer,
            out=out,
        )
    words = f"cross-entropy under PGD-{loss.num_steps}" if loss.eps else "cross-entropy"
    return views, {
        "data_free": False,
        "data": {"name": images.name, "split": images.split, "num_images": len(images)},
        "loss": {
            "words": words,
            "eps": loss.eps,
            "norm": loss.norm,
            "num_steps": loss.num_steps,
        },
        "points": given["points"],
        "span": given["span"],
        "seed": given["seed"],
        "models": [
            {
                "name": view.name,
                "loss": finite(view.centre),
                "mean_rise": [{"radius": r, "rise": finite(x)} for r, x in view.rises.items()],
            }
            for view in views
        ],
    }


def _images(given: dict[str, Any]) -> "ImageSet":
    from dfshield.cli.others import data_of, images_of

    data = data_of(given["data"], option="--data")
    images = images_of(data, split=given["split"], option="--data")
    return images.stratified(given["num_images"], seed=given["seed"])
