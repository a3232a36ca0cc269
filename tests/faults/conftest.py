"""Fixtures of the drill, and the table at its end."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))
sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from drill import HEADER, SYNTHESIS, Account, Disturbed
from ray_cluster import cluster
from ray_head import home
from s3_server import s3
from tiny_run import finished, run_of, small_disk, start, tiny, write_config

__all__ = ["cluster", "finished", "home", "s3", "small_disk", "tiny"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = (report for found in terminalreporter.stats.values() for report in found)
    ended = [report for report in reports if getattr(report, "when", "") == "teardown"]
    rows = [line for report in ended for name, line in report.user_properties if name == "drill"]
    if rows:
        terminalreporter.section("drill")
        terminalreporter.write_line("\n".join([HEADER, *rows]))


@pytest.fixture(scope="session")
def reference(finished, tmp_path_factory):
    """A function that gives the run folder of a synthesis that nobody disturbs."""
    made: dict[str, Path] = {}

    def of(**changes) -> Path:
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            config = write_config(tmp_path_factory.mktemp("reference"), **changes)
            shutil.copytree(run_of(finished / "tiny.yaml") / "teacher", run_of(config) / "teacher")
            process = start("synthesize", config)
            assert process.wait(1800) == 0
            made[key] = run_of(config)
        return made[key]

    return of


@pytest.fixture
def counted(record_property):
    """A function that opens an account, whose line stands in the table."""
    accounts: list[Account] = []

    def make(victim: str, phase: str) -> Account:
        accounts.append(Account(victim, phase))
        return accounts[-1]

    yield make
    for account in accounts:
        record_property("drill", account.line())


@pytest.fixture
def disturbed(tiny, reference, counted):
    """A function that gives a job to disturb, and counts it in the table."""

    def make(
        victim: str,
        phase: str = "synthesis",
        *,
        workers: int = 1,
        synthesis: dict[str, object] = SYNTHESIS,
        **changes,
    ) -> Disturbed:
        config = tiny(keep=("teacher",), **{**synthesis, **changes})
        return Disturbed(config, reference(**synthesis), counted(victim, phase), workers=workers)

    return make
