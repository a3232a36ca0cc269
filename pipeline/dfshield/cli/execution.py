"""Running stages of the pipeline for a command."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

EXIT_INTERRUPTED = 130


def execute(
    config: str,
    overrides: Sequence[str] | None,
    stages: Sequence[str],
    *,
    as_json: bool = False,
    replan: bool = False,
) -> None:
    """Run stages with progress on standard error and results on standard output.

    Ctrl-C or SIGTERM ends it with exit code 130 and the command that resumes.
    """
    # python: classifiers may lie in the folder where the command is given.
    sys.path.insert(0, str(Path.cwd()))
    from rich.console import Console

    from dfshield.cli.progress import LineObserver, TerminalObserver
    from dfshield.cli.tables import print_results
    from dfshield.config import load_config
    from dfshield.runs import Run, StageName, run_status, terminate_as_interrupt

    console = Console(stderr=True)
    observer = TerminalObserver(console) if console.is_terminal else LineObserver(console)
    settings = load_config(config, overrides or ())
    try:
        with terminate_as_interrupt():
            run = Run(settings, observer=observer, replan=replan)
            run.run([StageName(stage) for stage in stages])
    except KeyboardInterrupt:
        observer.close()
        command = shlex.join(["dfshield", *sys.argv[1:]])
        typer.echo(f"Stopped; what was committed is kept. Continue with: {command}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        observer.close()
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "status": run_status(str(run.context.layout.root)),
                    "results": [
                        result.model_dump(mode="json")
                        for results in run.results.values()
                        for result in results
                    ],
                }
            )
        )
    elif run.results:
        print_results(run.results)
