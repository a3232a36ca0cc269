"""Arguments and options that several commands take."""

from typing import Annotated

import typer

from dfshield.cli.machine_output import keep_stdout

ConfigArgument = Annotated[str, typer.Argument(help="The YAML file.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings that override the file's, as in training.gradrefine.tau=0.3.",
        metavar="[KEY=VALUE]...",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", callback=keep_stdout, help="State and results as JSON on standard output."
    ),
]
Replan = Annotated[
    bool,
    typer.Option(
        "--replan", help="Let interrupted work go on with another device or torch version."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Train once more what failed.")]
PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Only tell how it would be computed on this machine and how long it would take, from "
        "a few iterations that are measured.",
    ),
]
OptionalConfig = Annotated[
    str | None, typer.Argument(help="The YAML file of a run.", metavar="[CONFIG]")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A model of any origin, as teacher.source: python:package.module:factory (images in "
        "[0, 1] to logits), pytorchcv:NAME, medmnist:NAME, dfshield:NAME, or a folder: a run, its "
        "student or teacher, a published one.",
    ),
]
ModelWeights = Annotated[
    str | None,
    typer.Option(
        help="Its .safetensors or state_dict file; none for a factory's own and for a folder."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Real images: NAME, NAME:PATH, an .npz file or a folder of class folders."),
]
Split = Annotated[str | None, typer.Option(help="train, val or test, which is the default.")]
Eps = Annotated[str | None, typer.Option(help="Radius of the ball, 8/255 by default.")]
NormName = Annotated[str | None, typer.Option(help="linf, which is the default, or l2.")]
NumImages = Annotated[
    int | None, typer.Option(min=1, help="Size of a stratified sample of the images.")
]
SeedNumber = Annotated[int | None, typer.Option(min=0, help="Of attacks and sample.")]
Out = Annotated[str | None, typer.Option(help="Folder of results, evaluations/<model> by default.")]
Surrogate = Annotated[
    str | None,
    typer.Option(
        help="Folder of another classifier of the same images, such as a run or its teacher: its "
        "adversarial images are tried on the model.",
    ),
]
Defended = Annotated[
    str | None,
    typer.Option(
        help="A test-time defence that the model is measured behind: tte, or with its options, "
        "'{name: dad, detector: FILE}'.",
    ),
]
TrustPython = Annotated[
    bool,
    typer.Option(
        "--trust-python",
        help="Call the python: factory that the folder of a model names: it may run any code.",
    ),
]
RunFolder = Annotated[str, typer.Argument(help="A run folder, such as runs/digits.", metavar="RUN")]
Sets = Annotated[
    list[str],
    typer.Argument(
        help="Runs, such as runs/digits, or folders of surrogate images, such as "
        "runs/digits/synthetic.",
        metavar="SET...",
    ),
]
RealImages = Annotated[
    str,
    typer.Option(
        "--real",
        help="Real images: NAME, NAME:PATH, an .npz file or a folder of class folders.",
    ),
]
RealSplit = Annotated[str, typer.Option("--split", help="Of the real images: train, val or test.")]
Features = Annotated[
    str,
    typer.Option(
        help="The space that images are compared in: teacher (penultimate features), pixels, or "
        "'{name: vgg16, weights: FILE}'.",
    ),
]
TeacherFolder = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="Whose features: a run, which stands for its teacher, or the folder of a classifier. "
        "The teacher of the first set that lies in a run by default.",
    ),
]
SampleSize = Annotated[
    int | None,
    typer.Option(
        "--num-images",
        min=1,
        help="So many real images, and so many of each set, in proportion of their classes. All "
        "by default.",
    ),
]
SampleSeed = Annotated[int, typer.Option("--seed", min=0, help="Of samples and K-means.")]
