"""Running stages of the pipeline for a command."""

import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dfshield.cli.machine_output import print_json
from dfshield.errors import DfshieldWarning

if TYPE_CHECKING:
    from dfshield.cli.progress import LineObserver, TerminalObserver
    from dfshield.config import ClusterConfig, Config
    from dfshield.runs import Executor, Observer, Run, RunLayout
    from dfshield.storage import Folder
    from dfshield.trackers import Recorder

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

    Ctrl-C, SIGTERM or a closed terminal ends it with exit code 130 and the command that resumes.
    """
    with at_work(config, overrides) as (settings, executor, observer):
        # Not before: matplotlib, which comes with the tables, is to leave no trace.
        from dfshield.cli.tables import as_shown, print_corruptions, print_results, print_unmeasured
        from dfshield.runs import run_status

        run = done_stages(settings, executor, observer, stages, replan=replan)
        corrupted = run.corruptions() if "evaluate" in stages else {}
    if as_json:
        print_json(
            {
                "status": run_status(str(run.context.layout.root)),
                "results": [
                    result.model_dump(mode="json")
                    for results in run.results.values()
                    for result in results
                ],
                **({"corruptions": as_shown(corrupted)} if corrupted else {}),
            }
        )
        return
    if run.results:
        print_results(run.results, advice=settings.method is None)
    print_corruptions(corrupted)
    if "report" in stages:
        print_unmeasured(run_status(str(run.context.layout.root)), [config, *(overrides or ())])


def done_stages(
    settings: "Config",
    executor: "Executor",
    observer: "Observer",
    stages: Sequence[str],
    *,
    replan: bool = False,
) -> "Run":
    """Do stages of a run and return it; nothing is printed but progress."""
    from dfshield.runs import Run

    run = Run(
        settings,
        executor=executor,
        observer=observer,
        replan=replan,
        trackers=_cluster_trackers(settings),
    )
    run.run(stages)
    return run


@contextmanager
def at_work(
    config: str, overrides: Sequence[str] | None
) -> "Iterator[tuple[Config, Executor, TerminalObserver | LineObserver]]":
    """Give the configuration, what does the work, and who watches, for the block.

    What asks the process to stop ends it with exit code 130 and the command that resumes.
    """
    with working(lambda: load_settings(config, overrides)) as parts:
        yield parts


@contextmanager
def working(
    make_settings: "Callable[[], Config]",
    place: "Callable[[Config], RunLayout] | None" = None,
) -> "Iterator[tuple[Config, Executor, TerminalObserver | LineObserver]]":
    """Do as `at_work`, with a configuration that need not come from a file.

    Args:
        make_settings: returns it.
        place: tells where its files lie; None: where those of a run do.
    """
    from dfshield.runs import RunLayout, ignore_stop_signals, stop_signals_as_interrupt

    observer = new_observer()
    settings = make_settings()
    try:
        with (
            no_trace_of_matplotlib(),
            stop_signals_as_interrupt(),
            executor_of(
                settings.cluster, (place or RunLayout.of)(settings).root, observer
            ) as executor,
        ):
            yield settings, executor, observer
    except KeyboardInterrupt:
        ignore_stop_signals()  # they have been heard: this process is about to end
        observer.close()
        command = shlex.join(["dfshield", *sys.argv[1:]])
        typer.echo(f"Stopped; what was committed is kept. Continue with: {command}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        observer.close()


def load_settings(config: str, overrides: Sequence[str] | None) -> "Config":
    """Return the configuration of a command that will build its classifier.

    Raises:
        InputError: for what is wrong with it, naming the key or file.
    """
    find_factories_here()
    from dfshield.config import load_config

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DfshieldWarning)
        settings = load_config(config, overrides or ())
    for warning in (w for w in caught if issubclass(w.category, DfshieldWarning)):
        typer.echo(f"Note: {warning.message}", err=True)
    return settings


def find_factories_here() -> None:
    """Let ``python:`` classifiers lie in the folder where the command is given."""
    sys.path.insert(0, str(Path.cwd()))


def new_observer() -> "TerminalObserver | LineObserver":
    """Return what shows progress on standard error: a bar on a terminal, lines elsewhere."""
    from rich.console import Console

    from dfshield.cli.progress import LineObserver, TerminalObserver

    console = Console(stderr=True)
    return TerminalObserver(console) if console.is_terminal else LineObserver(console)


@contextmanager
def no_trace_of_matplotlib() -> Iterator[None]:
    """Let matplotlib keep its list of fonts elsewhere than in the user's home; ours are its own."""
    name = "MPLCONFIGDIR"
    if name in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="dfshield-") as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]


@contextmanager
def executor_of(
    cluster: "ClusterConfig", folder: "Folder", observer: "Observer"
) -> "Iterator[Executor]":
    """Give what does the work in a folder; Ray is started only when there is any."""
    from dfshield.distributed import RayExecutor
    from dfshield.runs import InProcessExecutor

    address = chosen_address(cluster)
    if address == "none":
        yield InProcessExecutor()
        return
    with RayExecutor(
        address,
        folder=folder,
        num_workers=cluster.num_workers,
        min_workers=cluster.min_workers,
        gpus_per_worker=cluster.gpus_per_worker,
        wait=cluster.wait,
        max_retries=cluster.max_retries,
        say=observer.say,
    ) as executor:
        yield executor


def _cluster_trackers(config: "Config") -> "dict[str, Callable[[], Recorder]]":
    """Return what tells a cluster's own metrics how the run goes; a Ray of our own has none."""
    if chosen_address(config.cluster) in ("none", "local"):
        return {}
    from dfshield.distributed.metrics import RayMetrics

    return {"Ray metrics": lambda: RayMetrics(config.name, config.all_seeds)}


def chosen_address(cluster: "ClusterConfig") -> str:
    """Return which Ray a run would use: ``none``, ``local``, ``auto`` or ``host:port``."""
    # As everywhere in Ray: RAY_ADDRESS counts unless an address is given.
    if "address" not in cluster.model_fields_set and os.environ.get("RAY_ADDRESS"):
        return "auto"
    return cluster.address


def trusting(overrides: Sequence[str] | None, trust_python: bool) -> list[str]:
    """Return a command's overrides with what ``--trust-python`` stands for."""
    return [*(overrides or ()), *(["teacher.trust_python=true"] if trust_python else [])]
