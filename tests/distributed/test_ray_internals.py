"""What is not public in Ray: used in one file alone, there, and done without where it is not."""

import ast
import re
import signal
import threading
from pathlib import Path

import pytest
import ray
from contract_tasks import Sum
from ray_cluster import drain
from ray_head import PACKAGE
from test_executor_contract import Recorder

from dfshield.distributed import ray_internals
from dfshield.distributed.cluster.coordinator import coordinator
from dfshield.distributed.workers.lost_workers import reason_of, reason_of_group

ROOT = PACKAGE / "dfshield"
PRIVATE = re.compile(r"\bray(\.\w+)*\.(_[a-z]\w*|v2)\b")

# ---------------------------------------------------------------- one file alone


def private_uses(file: Path) -> list[str]:
    """The modules and names of Ray in a file that Ray does not promise to keep."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = PRIVATE.findall(node.value) and [node.value]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        found += [name for name in names if PRIVATE.search(name)]
    return found


def test_no_other_file_of_the_package_uses_what_is_private_in_ray():
    allowed = Path(ray_internals.__file__)
    assert private_uses(allowed)
    users = {file.relative_to(ROOT): private_uses(file) for file in ROOT.rglob("*.py")}
    del users[allowed.relative_to(ROOT)]
    assert len(users) > 100
    assert {file: uses for file, uses in users.items() if uses} == {}


# ---------------------------------------------------------------- starting and stopping

STARTED = """
import os, signal
from dfshield.distributed.ray_internals import has_node, without_signal_handlers_of_ray
import ray

seen = []
signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
print(has_node())
with without_signal_handlers_of_ray():
    ray.init(address="local", include_dashboard=False, logging_level=40, log_to_driver=False)
    os.kill(os.getpid(), signal.SIGTERM)
print(has_node(), seen)
ray.shutdown()
print(has_node())
"""


@pytest.mark.drill
@pytest.mark.ray
def test_ray_starts_without_taking_the_handler_of_sigterm(home, drive):
    done = drive(STARTED, home)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["False", "True [15]", "False"]


SILENT = """
from dfshield.distributed.cluster.session import RaySession
from dfshield.errors import InputError

try:
    RaySession("127.0.0.1:1", log=print).start()
except InputError:
    from ray._private.ray_logging import stdout_deduplicator

    for line in ("A worker died or was killed while executing a task", "all is well"):
        batch = {"ip": "127.0.0.1", "pid": "raylet", "lines": [line]}
        print(stdout_deduplicator.deduplicate(batch)[0]["lines"])
"""


def test_ray_does_not_print_what_the_driver_says_itself(home, drive):
    assert drive(SILENT, home).stdout.splitlines() == ["[]", "['all is well']"]


# ---------------------------------------------------------------- a cluster


class Busy:
    """An actor that keeps its node."""


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_is_drained_is_known(on_cluster, cluster):
    on_cluster.engine()  # joins the cluster
    assert ray_internals.draining_nodes() == frozenset()
    node = cluster.add_node(num_cpus=1, resources={"there": 1})
    cluster.wait_for_nodes()
    try:
        busy = ray.remote(Busy).options(num_cpus=0, resources={"there": 1}).remote()
        ray.get(busy.__ray_ready__.remote())  # a node that is idle would go at once
        drain(cluster.address, node.node_id, seconds=3600)
        assert ray_internals.draining_nodes() == {node.node_id}
    finally:
        cluster.remove_node(node)


class Impatient(Recorder):
    """Cannot take more as soon as a group is at work."""

    def emit(self, event, **fields):
        if event == "waiting":
            raise TimeoutError
        super().emit(event, **fields)


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_a_group_that_is_left_ends_at_once_and_its_coordinator_is_asked(on_cluster, tmp_path):
    job = Sum(tmp_path / "sum", waits_to_be_stopped=True)
    with pytest.raises(TimeoutError):
        on_cluster.run_group(job, engine=on_cluster.engine(), monitor=Impatient())
    assert "dfshield-train" not in {thread.name for thread in threading.enumerate()}
    assert isinstance(ray_internals.num_coordinator_requests(coordinator()), int)


# ---------------------------------------------------------------- errors


def test_the_death_of_a_training_worker_is_told_with_its_reason():
    from ray.exceptions import RayError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    death = WorkerHealthCheckFailedError("Worker 1 failed", RayError("it was killed"))
    assert reason_of(death) == "it was killed"
    lost = WorkerGroupError("both", {0: RuntimeError("connection closed"), 1: death})
    assert reason_of_group(lost) == "rank 1: it was killed"


# ---------------------------------------------------------------- another Ray


def absent(name):
    raise ModuleNotFoundError(f"No module named {name!r}")


@pytest.mark.parametrize("found", [absent, lambda _: object()], ids=["no module", "no name"])
def test_a_ray_that_has_changed_costs_only_what_is_said(monkeypatch, found):
    monkeypatch.setattr(ray_internals, "import_module", found)
    handler = signal.getsignal(signal.SIGTERM)
    with ray_internals.without_signal_handlers_of_ray():
        assert signal.getsignal(signal.SIGTERM) == handler
    assert ray_internals.has_node()
    assert ray_internals.draining_nodes() == frozenset()
    ray_internals.kill_train_controllers(object())
    assert ray_internals.death_of_train_worker(RuntimeError("gone")) is None
    assert ray_internals.num_coordinator_requests(object()) is None
