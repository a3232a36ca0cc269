"""The command ``verify``."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from rich.console import Console

from dfshield.cli.execution import executor_of, new_observer
from dfshield.cli.machine_output import print_json
from dfshield.cli.repairing import make_again
from dfshield.cli.verifying_baselines import verify_baseline_command
from dfshield.config import ClusterConfig
from dfshield.errors import InputError
from dfshield.runs import Executor, Observer, Resynthesis, resynthesize, verify_run
from dfshield.runs.layout import kept_settings, method_of, why_no_images
from dfshield.runs.lease import Lease
from dfshield.runs.names import CONFIG_FILE
from dfshield.runs.verification import discard
from dfshield.storage import Folder, VerifyReport


def verify_command(
    location: str, *, resynthesize: int, repair: bool, cluster: str | None, as_json: bool
) -> bool:
    """Verify, repair if asked and needed, print what was found; return whether all is well.

    Raises:
        InputError: if there is nothing to verify, or images are to be made again that a run has
            not stored.
    """
    run = Folder.at(location)
    settings = kept_settings(run)
    if method_of(settings) is not None:
        if resynthesize:
            raise InputError(f"--resynthesize: not for {run}: {why_no_images(settings)}")
        return verify_baseline_command(run, repair=repair, as_json=as_json, cluster=cluster)
    reports = _verified(location, cluster)
    if repair and not all(report.ok for report in reports):
        _repair(location, reports, cluster=cluster)
        reports = _verified(location, cluster)
    compared = _resynthesized(location, reports, resynthesize, cluster)
    if repair and any(comparison.differing for comparison in compared):
        _repair(location, reports, compared, cluster=cluster)
        reports = _verified(location, cluster)
        compared = _resynthesized(location, reports, resynthesize, cluster)
    if as_json:
        shown = [report.to_json() for report in reports]
        for report, comparison in zip(shown, compared, strict=False):
            report["resynthesis"] = comparison.to_json()
        print_json(shown)
    else:
        _print(reports, compared)
    return _all_well(reports, compared)


@contextmanager
def _at_work(location: str, cluster: str | None) -> Iterator[tuple[Executor, Observer]]:
    """Give the workers of a cluster, or this process, and who watches, for the block."""
    where = ClusterConfig(address=cluster or "none")
    with (
        closing(new_observer()) as observer,
        executor_of(where, Folder.at(location), observer) as executor,
    ):
        yield executor, observer


def _verified(location: str, cluster: str | None) -> list[VerifyReport]:
    """Have every part read and checked."""
    with _at_work(location, cluster) as (executor, observer):
        return verify_run(location, executor=executor, observer=observer)


def _resynthesized(
    location: str, reports: Sequence[VerifyReport], num_images: int, cluster: str | None
) -> list[Resynthesis]:
    if not num_images:
        return []
    with _at_work(location, cluster) as (executor, observer):
        return resynthesize(location, reports, num_images, executor=executor, observer=observer)


def _all_well(reports: Sequence[VerifyReport], compared: Sequence[Resynthesis]) -> bool:
    return all(report.ok for report in reports) and not any(c.differing for c in compared)


def _repair(
    location: str,
    reports: Sequence[VerifyReport],
    compared: Sequence[Resynthesis] = (),
    *,
    cluster: str | None,
) -> None:
    """Delete what is broken and have it made again, wherever the run lies by now."""
    run = Folder.at(location)
    if not run.exists(CONFIG_FILE):
        raise InputError(f"{run}: --repair needs a run folder, with its {CONFIG_FILE}")
    with Lease(run):
        discard(run, reports, compared)
    make_again(run, ("synthesize",), cluster=cluster)


def _print(reports: Sequence[VerifyReport], compared: Sequence[Resynthesis]) -> None:
    """Print one line per data set and one per part that does not verify."""
    console = Console(soft_wrap=True, highlight=False)
    for report in reports:
        console.print(
            f"{report.location}: {report.count('ok')} of {len(report.parts)} parts verify, "
            f"{report.num_valid_images:,} of {report.num_images:,} images"
        )
        for part in report.parts:
            if part.verdict != "ok":
                console.print(f"  {part.path}: {part.verdict} {part.reason}".rstrip())
        for name in report.extra_files:
            console.print(f"  {name}: not planned by the manifest")
    for comparison in compared:
        console.print(
            f"{comparison.location}: {comparison.num_images:,} images made again in "
            f"{comparison.num_batches} batches, {len(comparison.differing)} differ"
        )
        for path, row in comparison.differing:
            console.print(f"  {path} image {row}: not what the engine makes")
    if not _all_well(reports, compared):
        console.print("--repair makes again what is missing, broken or other than it was made")
