"""The commands `fit-defence`: networks of test-time defences, fitted to real images."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfshield.cli.execution import EXIT_INTERRUPTED, find_factories_here, new_observer
from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson, TrustPython

if TYPE_CHECKING:
    from dfshield.datasets import ImageSet
    from dfshield.runs import Observer
    from dfshield.runs.fitted_defences import Shown

fit_app = typer.Typer(
    help="Fit the network that a test-time defence needs, to real images.", no_args_is_help=True
)

Images = Annotated[
    str,
    typer.Option(
        "--data", help="Real images: NAME, NAME:PATH, an .npz file or a folder of classes."
    ),
]
OutFile = Annotated[
    str,
    typer.Option(
        "--out", help="The .safetensors file to write, where nothing is yet.", metavar="FILE"
    ),
]
SplitOfImages = Annotated[str, typer.Option("--split", help="Of them: train, val or test.")]
Sample = Annotated[
    int | None, typer.Option("--num-images", min=1, help="Size of a stratified sample; else all.")
]
OtherModel = Annotated[
    str,
    typer.Option(
        help="A classifier of another data set with as many classes: a run, which stands for its "
        "student, or the folder of a classifier."
    ),
]
AdaptTo = Annotated[
    str | None,
    typer.Option(
        "--adapt-to",
        help="The classifier to defend; with --adapt-data. The detector is adapted to its "
        "unlabelled logits, as published.",
    ),
]
AdaptData = Annotated[
    str | None,
    typer.Option("--adapt-data", help="Its images, of which the test split is taken."),
]
SeedOfFit = Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")]


@fit_app.command("diffpure")
def fit_diffpure(
    data: Images,
    out: OutFile,
    split: SplitOfImages = "train",
    num_images: Sample = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Show grey images as so many equal channels, as the model does."),
    ] = None,
    width: Annotated[int, typer.Option(min=4, help="Of the network, a multiple of 4.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Over the images.")] = 30,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Of a step.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Adam's.")] = 2e-3,
    seed: SeedOfFit = 0,
    as_json: AsJson = False,
) -> None:
    """Train the small score network of the defence diffpure by denoising real images.

    They are to be like those that it will purify, but not these: a test split that it has seen
    flatters the defence. FILE says how it was made.

    Example: dfshield fit-defence diffpure --data digits --out score.safetensors
    """
    with _fitting(out) as observer:
        from dfshield.runs.fitted_defences import fit_score
        from dfshield.storage import Folder

        images = _images(data, split, num_images, seed)
        told = fit_score(
            images if channels is None else images.with_channels(channels),
            out=Folder.at(out),
            observer=observer,
            width=width,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        )
    _show(out, told, f"{{name: diffpure, score: {out}}}", as_json=as_json)


@fit_app.command("dad")
def fit_dad(
    model: OtherModel,
    data: Images,
    out: OutFile,
    split: SplitOfImages = "train",
    adapt_to: AdaptTo = None,
    adapt_data: AdaptData = None,
    num_images: Sample = None,
    eps: Annotated[str, typer.Option(help="Of PGD, which makes the attacked logits.")] = "8/255",
    norm: Annotated[str, typer.Option(help="linf or l2.")] = "linf",
    num_steps: Annotated[int, typer.Option("--num-steps", min=1, help="Of PGD.")] = 10,
    seed: SeedOfFit = 0,
    trust_python: TrustPython = False,
    as_json: AsJson = False,
) -> None:
    """Train the detector of the defence dad on clean and attacked logits, and adapt it.

    With --adapt-to and --adapt-data the test images leak into the defence, as they do in the
    published one: every result says so. Without, it is used as it was trained.

    Example: dfshield fit-defence dad --model runs/textures/teacher --data textures.npz --eps 0.1
    --adapt-to runs/digits/teacher --adapt-data digits --out detector.safetensors
    """
    if (adapt_to is None) != (adapt_data is None):
        from dfshield.errors import InputError

        missing = "--adapt-data" if adapt_data is None else "--adapt-to"
        raise InputError(f"{missing}: is missing: a classifier and its images go together")
    with _fitting(out) as observer:
        from dfshield.epsilon import parse_epsilon
        from dfshield.runs.fitted_defences import fit_detector
        from dfshield.storage import Folder

        def shown(classifier: str, images: str, of: str, options: tuple[str, str]) -> "Shown":
            read = _images(images, of, num_images, seed, option=options[1])
            return _shown(classifier, read, options, trust_python=trust_python)

        target = None
        if adapt_to is not None and adapt_data is not None:
            target = shown(adapt_to, adapt_data, "test", ("--adapt-to", "--adapt-data"))
        told = fit_detector(
            shown(model, data, split, ("--model", "--data")),
            target,
            out=Folder.at(out),
            observer=observer,
            eps=parse_epsilon(eps, key="--eps"),
            norm=norm,
            num_steps=num_steps,
            seed=seed,
        )
    _show(out, told, f"{{name: dad, detector: {out}}}", as_json=as_json)


@contextmanager
def _fitting(out: str) -> "Iterator[Observer]":
    """Give who watches, for the block; what stops it leaves no file and says so."""
    from dfshield.runs import stop_signals_as_interrupt

    try:
        with closing(new_observer()) as observer, stop_signals_as_interrupt():
            yield observer
    except KeyboardInterrupt:
        typer.echo(f"Stopped; nothing was written to {out}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _images(
    text: str, split: str, num_images: int | None, seed: int, *, option: str = "--data"
) -> "ImageSet":
    from dfshield.cli.others import data_of, images_of

    images = images_of(data_of(text, option=option), split=split, option=option)
    return images if num_images is None else images.stratified(num_images, seed=seed)


def _shown(
    location: str, images: "ImageSet", options: tuple[str, str], *, trust_python: bool
) -> "Shown":
    """Return a classifier and images made to fit it; the options that named them are for errors."""
    from dfshield.runs.fitted_defences import Shown
    from dfshield.runs.inputs.classifier_folder import load, named_classifier
    from dfshield.runs.inputs.real_data import fitted

    find_factories_here()
    folder = named_classifier(location, key=options[0], trust_python=trust_python)
    classifier = load(folder.uri, trust_python=trust_python)
    return Shown(classifier, fitted(images, classifier, key=options[1]))


def _show(out: str, told: dict[str, Any], named: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": out, **told})
    else:
        typer.echo(f"Written: {out}; use it as --defence '{named}' or in evaluation.defences")
