"""The command ``export-data``."""

from contextlib import closing
from typing import Annotated

import typer

from dfshield.cli.execution import EXIT_INTERRUPTED, new_observer, no_trace_of_matplotlib
from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson, RunFolder


def export_data(
    run: RunFolder,
    to: Annotated[
        str,
        typer.Option(
            help="hf: a folder for Hugging Face datasets; ray: a folder for ray.data; npz: a file "
            "for NumPy."
        ),
    ],
    out: Annotated[
        str, typer.Option(help="What to write: a path or URI where nothing is yet.", metavar="PATH")
    ],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Whose images, in a run of several seeds.")
    ] = None,
    uint8: Annotated[
        bool,
        typer.Option(
            "--uint8",
            help="Round float pixels to 8 bits, off by at most 1/510; with hf they are pictures "
            "then. Without it, every pixel is as stored.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's surrogate images for Hugging Face datasets, ray.data or NumPy.

    RUN may be a run folder or a data set, on a disk or an object store. Every image is checked on
    the way. Splits keep their names: train (what students are trained on) and holdout.

    Example: dfshield export-data runs/digits --to hf --out digits-hf
    """
    from dfshield.runs import export_data, stop_signals_as_interrupt

    try:
        with (
            closing(new_observer()) as observer,
            no_trace_of_matplotlib(),
            stop_signals_as_interrupt(),
        ):
            report = export_data(run, to, out, seed=seed, uint8=uint8, observer=observer)
    except KeyboardInterrupt:
        typer.echo(f"Stopped; nothing was written to {out}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        print_json(report.to_json())
        return
    splits = ", ".join(f"{number:,} in {name}" for name, number in report.splits.items())
    typer.echo(f"{report.path}: {splits}; {report.image_dtype} images of {report.source}")
