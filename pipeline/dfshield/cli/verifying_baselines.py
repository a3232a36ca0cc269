"""The command ``verify`` for a run whose method is a baseline, which stores no images."""

from collections.abc import Sequence

from rich.console import Console

from dfshield.cli.machine_output import print_json
from dfshield.cli.repairing import make_again
from dfshield.runs.baseline_verification import BaselineReport, discard_baseline, verify_baseline
from dfshield.runs.lease import Lease
from dfshield.runs.names import EVALUATION, STUDENT
from dfshield.storage import Folder


def verify_baseline_command(
    run: Folder, *, repair: bool, as_json: bool, cluster: str | None
) -> bool:
    """Verify, repair if asked and needed, print what was found; return whether all is well."""
    reports = verify_baseline(run)
    if repair and not _all_well(reports):
        _repair(run, reports, cluster)
        reports = verify_baseline(run)
    if as_json:
        print_json([report.to_json() for report in reports])
    else:
        _print(reports)
    return _all_well(reports)


def _all_well(reports: Sequence[BaselineReport]) -> bool:
    return all(report.ok for report in reports)


def _repair(run: Folder, reports: Sequence[BaselineReport], cluster: str | None) -> None:
    """Delete what is broken and have the stages that made it make it again."""
    bad = [file.path for each in reports for file in each.files if file.verdict != "ok"]
    of = {STUDENT: "train", EVALUATION: "evaluate"}
    stages = [of[folder] for folder in of if any(path.startswith(f"{folder}/") for path in bad)]
    with Lease(run):
        for report in reports:
            discard_baseline(report)
    make_again(run, stages, cluster=cluster)


def _print(reports: Sequence[BaselineReport]) -> None:
    """Print one line per seed and one per file that does not verify."""
    console = Console(soft_wrap=True, highlight=False)
    for report in reports:
        good = sum(file.verdict == "ok" for file in report.files)
        console.print(f"{report.location}: {good} of {len(report.files)} files verify")
        for file in report.files:
            if file.verdict != "ok":
                console.print(f"  {file.path}: {file.verdict} {file.reason}".rstrip())
    if not _all_well(reports):
        console.print("--repair makes again what is missing or broken")
