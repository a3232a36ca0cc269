"""Shared by all tests: thread count, who runs what, where real data lies."""

import os
from functools import cache
from pathlib import Path

# Set before torch is loaded, and inherited by the processes that tests start: with more threads
# than free cores, torch's threads spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers step behind everything else (15), and would starve beside another process of tests.
os.environ.setdefault("RAY_worker_niceness", "0")
# Clusters of the tests have GPUs that are only counted.
os.environ.setdefault("DFSHIELD_COUNTED_GPUS", "1")

import torch  # noqa: F401 - before the hook, under which a library's bytecode is not found
from jaxtyping import install_import_hook

if os.environ.get("DFSHIELD_CHECK_SHAPES"):  # see test_shapes.py
    install_import_hook("dfshield", "beartype.beartype").__enter__()

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TESTS = Path(__file__).parent


class OneRay(LoadFileScheduling):
    """Processes share the files of tests; one of them begins with all that start Ray.

    Two Rays at once would be too much for two cores, and one by itself leaves a core idle for much
    of its time. The examples are files like others.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if starts_ray(self.config.rootpath / file) else file


@cache
def starts_ray(path: Path) -> bool:
    return path.parent != TESTS and "pytest.mark.ray" in path.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRay:
    return OneRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray comes first, so that it is not what all wait for; then what takes long."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = TESTS / "test_examples.py"
    items.sort(key=lambda i: (not starts_ray(i.path), i.path != first, i.path not in slow))


@pytest.fixture(scope="session")
def mortal() -> list[str]:
    """How a command begins that may do no more than permissions say: root may do anything."""
    caps = "--bounding-set=-dac_override,-dac_read_search"
    return ["setpriv", caps] if not os.geteuid() else []


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data that DFSHIELD_DATA names; tests skip only when it is unset."""
    folder = os.environ.get("DFSHIELD_DATA")
    if not folder:
        pytest.skip("DFSHIELD_DATA is not set: it names the folder with the real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def real_file(data_folder: Path):
    """Return a function that gives the path of one real file, failing if it is missing."""

    def find(name: str) -> Path:
        path = data_folder / name
        assert path.is_file(), f"{path} is missing although DFSHIELD_DATA is set"
        return path

    return find
