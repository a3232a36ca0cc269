"""Fixtures of the drill, and the table at its end."""

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
from ray_head import new_home
from s3_server import s3
from tiny_run import finish, finished, run_of, small_disk, tiny, write_config

__all__ = ["cluster", "finished", "s3", "small_disk", "tiny"]

_table: list[Account] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _table:
        terminalreporter.section("drill")
        terminalreporter.write_line(HEADER)
        for account in _table:
            terminalreporter.write_line(account.line())


@pytest.fixture(scope="session")
def reference(finished, tmp_path_factory) -> Path:
    """The run folder that the drill's synthesis gives when nobody disturbs it."""
    config = write_config(tmp_path_factory.mktemp("reference"), **SYNTHESIS)
    shutil.copytree(run_of(finished / "tiny.yaml") / "teacher", run_of(config) / "teacher")
    finish("synthesize", config)
    return run_of(config)


@pytest.fixture
def disturbed(tiny, reference):
    """A function that gives a job to disturb, and counts it in the table."""

    def make(victim: str, phase: str = "synthesis", *, workers: int = 1, **changes) -> Disturbed:
        account = Account(victim, phase)
        _table.append(account)
        config = tiny(keep=("teacher",), **{**SYNTHESIS, **changes})
        return Disturbed(config, reference, account, workers=workers)

    return make


@pytest.fixture
def home():
    """An environment in which Ray has a home and a temporary folder of its own."""
    homes = new_home()
    yield next(homes)
    next(homes, None)
