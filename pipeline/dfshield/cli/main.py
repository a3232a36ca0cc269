"""The commands. What they need is imported when they run, so that ``--help`` is quick."""

import json
import os
import sys
import time
from typing import Annotated

import typer

from dfshield import __version__
from dfshield.cli.comparing import diversity, figure_app
from dfshield.cli.execution import execute, trusting
from dfshield.cli.exporting import export_data
from dfshield.cli.fitting import fit_app
from dfshield.cli.machine_output import KEPT, print_json
from dfshield.cli.measuring import audit, evaluate
from dfshield.cli.methods import methods
from dfshield.cli.options import (
    AsJson,
    ConfigArgument,
    Overrides,
    Replan,
    RetryFailed,
    RunFolder,
    TrustPython,
)
from dfshield.cli.paper import paper
from dfshield.cli.reproducing import reproduce
from dfshield.cli.stages import stage_command
from dfshield.cli.surface import figure_surface
from dfshield.errors import DfshieldError, InputError
from dfshield.runs.stages.registry import STAGES

_RUN = """
Do everything: {}.

Without evaluation.data there is no evaluation: the report says what synthetic images tell.
Continues where it stopped; does nothing when all is done.

Example: dfshield run examples/digits.yaml seed=1 name=digits-1
"""

config_app = typer.Typer(help="About configuration files.", no_args_is_help=True)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"dfshield {__version__}")
        raise typer.Exit
    return wanted


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def run(
    config: ConfigArgument,
    overrides: Overrides = None,
    as_json: AsJson = False,
    replan: Replan = False,
    trust_python: TrustPython = False,
) -> None:
    """Do all stages."""
    overrides = trusting(overrides, trust_python)
    execute(config, overrides, tuple(STAGES), as_json=as_json, replan=replan)


def sweep(
    config: ConfigArgument,
    overrides: Overrides = None,
    as_json: AsJson = False,
    replan: Replan = False,
    retry_failed: RetryFailed = False,
    trust_python: TrustPython = False,
) -> None:
    """Train a student for every setting of the sweep section, and compare them.

    All share one surrogate data set, the run's own, unless a key that changes it is swept. The
    same command continues where it stopped; values that are added later are trained as well.

    Example: dfshield sweep examples/digits.yaml sweep.preset=sensitivity-tau sweep.seeds='[0, 1]'
    """
    from dfshield.cli.sweeping import sweep_command

    overrides = trusting(overrides, trust_python)
    sweep_command(config, overrides, as_json=as_json, replan=replan, retry_failed=retry_failed)


def matrix(
    config: ConfigArgument,
    overrides: Overrides = None,
    as_json: AsJson = False,
    replan: Replan = False,
    retry_failed: RetryFailed = False,
    trust_python: TrustPython = False,
) -> None:
    """Train a student for every cell of a matrix, such as teachers × data sets (figure 1b).

    Rows and columns are the two axes of sweep.cases. It is a sweep, which `dfshield sweep` runs as
    well: it continues where it stopped, and cases that are added later are trained as well.

    Example: dfshield matrix examples/sweeps/digits-matrix.yaml sweep.seeds='[0, 1]'
    """
    from dfshield.cli.sweeping import sweep_command

    sweep_command(
        config,
        trusting(overrides, trust_python),
        as_json=as_json,
        replan=replan,
        retry_failed=retry_failed,
        matrix=True,
    )


def status(
    run: RunFolder,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
) -> None:
    """Tell how far a run or a sweep is, from its files alone.

    Example: dfshield status runs/digits --watch

    Example: dfshield status runs/digits/sweeps/sensitivity-tau
    """
    from dfshield.cli.sweeping import print_sweep_status
    from dfshield.cli.tables import print_status
    from dfshield.runs import run_status
    from dfshield.runs.sweep import is_sweep, sweep_status

    sweeps = is_sweep(run)
    while True:
        state = sweep_status(run) if sweeps else run_status(run)
        if as_json:
            print_json(state)
        elif sweeps:
            print_sweep_status(state, clear=watch)
        else:
            print_status(state, clear=watch)
        if not watch:
            return
        time.sleep(2.0)


def verify(
    run: RunFolder,
    resynthesize: Annotated[
        int,
        typer.Option(
            min=0, help="So many images, drawn at random, are also made again and compared."
        ),
    ] = 0,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make again the parts that are missing, broken or found to differ."
        ),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Let the workers of a Ray cluster read parts, make images again and repair: an "
            "address as cluster.address takes it. Without it this process does.",
            metavar="ADDRESS",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every part of a run's surrogate data; check it against its checksum and the manifest.

    RUN may be a run folder or, without --resynthesize and --repair, a data set. Of a run whose
    method is a baseline, which stores no images, student, generator and results are read. Exit code
    3 if anything is missing, broken or other than it was made.

    Example: dfshield verify runs/digits --resynthesize 20 --repair
    """
    from dfshield.cli.verification import verify_command

    if not verify_command(
        run, resynthesize=resynthesize, repair=repair, cluster=cluster, as_json=as_json
    ):
        raise typer.Exit(DfshieldError.exit_code)


def doctor(
    config: Annotated[
        str | None, typer.Argument(help="The YAML file of a run.", metavar="[CONFIG]")
    ] = None,
    overrides: Overrides = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="A launch template to look for placeholders in."),
    ] = None,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial",
            help="Only hold the engine trials of the run on this machine: minutes.",
        ),
    ] = False,
    trust_python: TrustPython = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the cluster that would be used, a run's teacher and its test images.

    Versions, GPUs, storage that all nodes share, authentication, clocks, free disk; whether the
    teacher can be built, hardened and trained. A cluster is joined as `dfshield run` would: by
    cluster.address, or RAY_ADDRESS. Nothing is written. Exit code 3 if anything would stop the run.

    Example: dfshield doctor examples/digits.yaml cluster.address=auto --template cluster/aws.yaml
    """
    from dfshield.cli.diagnosis import doctor_command
    from dfshield.cli.engine_trial import trial_command

    overrides = trusting(overrides, trust_python)
    if trial:
        trial_command(config, overrides, as_json=as_json)
        return
    if not doctor_command(config, overrides, template or (), as_json=as_json):
        raise typer.Exit(DfshieldError.exit_code)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of configuration files, with every key, default and description.

    Example: dfshield config schema > dfshield.schema.json
    """
    from dfshield.config import Config

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))


@config_app.command("show")
def config_show(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Print a configuration with its preset and all defaults filled in.

    Example: dfshield config show examples/digits.yaml preset=paper/medical
    """
    from dfshield.config import described_config, load_config

    typer.echo(described_config(load_config(config, overrides or ())), nl=False)


def application() -> typer.Typer:
    """Return the command line, with a command for every stage that there is."""
    app = typer.Typer(
        name="dfshield",
        help="Harden a pretrained image classifier against adversarial attack without its training "
        "data.\n\nThe whole pipeline: [bold]dfshield run examples/digits.yaml[/bold]",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    app.command(help=_RUN.format(", ".join(STAGES)))(run)
    own = {"evaluate": evaluate}
    for stage in STAGES.values():
        app.command(stage.name, help=stage.help)(own.get(stage.name) or stage_command(stage))
    measuring = (audit, diversity, sweep, matrix, reproduce)
    others = (*measuring, status, verify, export_data, doctor, methods, paper)
    for command in others:
        app.command()(command)
    figure_app.command("surface")(figure_surface)
    app.add_typer(figure_app, name="figure")
    app.add_typer(fit_app, name="fit-defence")
    app.add_typer(config_app, name="config")
    return app


def main() -> None:
    """Run the command line; an error is one line and its exit code."""
    # A thread of Ray Tune that outlives an interrupted sweep must not start a Ray of its own.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        with KEPT:
            application()()
    except DfshieldError as error:
        hint = " (dfshield --help)" if isinstance(error, InputError) and not str(error) else ""
        typer.echo(f"Error: {error}{hint}", err=True)
        sys.exit(error.exit_code)
