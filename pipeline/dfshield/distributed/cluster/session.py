"""Starting Ray on this machine, joining a running cluster, and leaving either."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfshield.distributed.cluster.address import (
    AUTO,
    LOCAL,
    check_reachable,
    join_failure,
    target_of,
)
from dfshield.distributed.cluster.auth_token import prepare_token
from dfshield.distributed.cluster.processes import ProcessGroup, deferred_signals
from dfshield.errors import DfshieldError, InputError, one_line

_START_HINT = (
    "free memory and disk space in its temporary folder (RAY_TMPDIR), or set cluster.address=none"
)

# Read by Ray as it is imported: what it prints of lost workers and nodes, which the driver reports
# itself.
_QUIET_IMPORT = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed|killed due to memory pressure"
    "|Raylet is terminated|has been marked dead"
}
# Read by Ray while it starts; whatever the user has set stays.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
# A Ray of this process alone: all workers stay in the `ProcessGroup` that is ended with it, also
# those that have not noticed the end of their raylet; and none is started before it has work.
_OWN = {
    "RAY_process_group_cleanup_enabled": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}
# One attempt of 40 s to reach the cluster's GCS, where Ray makes 20.
_PROMPT = {"RAY_gcs_server_port_wait_time_s": "1"}


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive.

    Attributes:
        id: Ray's hexadecimal id.
        host: name of the machine.
        cpus: logical CPUs that Ray counts there.
        gpus: logical GPUs that Ray counts there.
    """

    id: str
    host: str
    cpus: int
    gpus: int


class RaySession:
    """A connection to Ray, open between `start` and `close`.

    A local Ray is started without dashboard and without output on the terminal, and ends with this
    process, also when that is killed. A Ray that was joined, or that this process had already
    initialised, is left running.

    Args:
        address: ``local`` starts a Ray on this machine, even when RAY_ADDRESS is set; ``auto``
            joins the one of RAY_ADDRESS, or else the one that runs on this machine; ``host:port``
            joins that one.
        log: called with one line when Ray is being started or has been joined.

    Attributes:
        local: whether this session started a Ray of its own.
    """

    def __init__(self, address: str, *, log: Callable[[str], None]) -> None:
        self.address = address
        self._log = log
        self._connected = False
        self._owned = False
        self.local = False
        self._processes: ProcessGroup | None = None

    def start(self) -> None:
        """Start or join Ray; nothing happens when that is done.

        Raises:
            InputError: for an address that cannot be used or does not answer, a missing or wrong
                token, a cluster of another Ray or Python version, or when Ray is not installed.
            DfshieldError: when Ray does not start on this machine.
        """
        if self._connected:
            return
        target = target_of(self.address)
        _import_ray()
        import ray

        with _defaults(_QUIET | (_OWN if target == LOCAL else _PROMPT)), deferred_signals():
            if ray.is_initialized():
                self._log("Using the Ray that this process has initialised")
            elif target == LOCAL:
                self._start_local()
            else:
                self._join(target)
            self._connected = True

    def close(self) -> None:
        """Leave Ray, and end it if this session started it; nothing happens when that is done."""
        if not self._connected:
            return
        self._connected = False
        if self._owned:
            self._owned = self.local = False
            self._shutdown()

    def _shutdown(self) -> None:
        import ray

        with deferred_signals():
            ray.shutdown()
            if self._processes is not None:
                self._processes.kill()
                self._processes = None

    def nodes(self) -> tuple[Node, ...]:
        """Return the machines of the cluster that are alive, in a fixed order."""
        import ray

        known: Callable[[], list[dict[str, Any]]] = ray.nodes
        found = [
            Node(
                id=node["NodeID"],
                host=node["NodeManagerHostname"],
                cpus=int(node["Resources"].get("CPU", 0)),
                gpus=int(node["Resources"].get("GPU", 0)),
            )
            for node in known()
            if node["Alive"]
        ]
        return tuple(sorted(found, key=lambda node: (node.host, node.id)))

    @property
    def gcs_address(self) -> str:
        """``host:port`` of the cluster's GCS."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    def _start_local(self) -> None:
        import ray

        self._log("Starting Ray on this machine")
        prepare_token()
        self._processes = ProcessGroup()
        try:
            with self._processes.joined_by_children():
                ray.init(
                    address=LOCAL,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except Exception as error:
            self._shutdown()
            raise DfshieldError(
                f"Ray did not start on this machine: {one_line(error)}: {_START_HINT}"
            ) from error
        except BaseException:
            self._shutdown()
            raise
        self._owned = self.local = True

    def _join(self, target: str) -> None:
        import ray
        from ray.exceptions import RayError

        if target != AUTO:
            check_reachable(target)
        try:
            with _mute_stderr():
                ray.init(address=target, logging_level=logging.ERROR, log_to_driver=False)
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            self._shutdown()
            raise InputError(join_failure(target, error)) from error
        except BaseException:
            self._shutdown()
            raise
        self._owned = True
        where = ray.get_runtime_context().gcs_address
        self._log(f"Joined the Ray at {where}: {len(self.nodes())} node(s)")


def _import_ray() -> None:
    try:
        with _defaults(_QUIET_IMPORT):
            import ray  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise InputError(
            "Ray is not installed: pip install 'ray[default,train,tune]', or work in this "
            "process with cluster.address=none"
        ) from None


@contextmanager
def _defaults(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, for the block."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _mute_stderr() -> Iterator[None]:
    """Discard what Ray's C++ writes when it cannot connect: the exception says it too."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
