"""Starting a Ray on this machine, joining one that runs, and leaving either without a trace."""

import importlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dfshield.errors import DfshieldError, InputError

LOCAL = "local"
AUTO = "auto"

_CONNECT_TIMEOUT_S = 5.0
_START_HINT = "free memory and disk space in its temporary folder (RAY_TMPDIR), or use none"

# Read by Ray while it starts; whatever the user has set stays.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
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

    A local Ray is started without dashboard and without a word on the terminal, and ends with this
    process, however that ends. A Ray that was joined, or that this process had already initialised,
    is left running.

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
        self._watcher: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start or join Ray; nothing happens when that is done.

        Raises:
            InputError: for an address that cannot be used or does not answer, a missing or wrong
                token, a cluster of another Ray or Python version, or when Ray is not installed.
            DfshieldError: when Ray does not start on this machine.
        """
        if self._connected:
            return
        target = self._target()
        if importlib.util.find_spec("ray") is None:
            raise InputError(
                "Ray is not installed: pip install 'ray[default,train,tune]', or set "
                "cluster.address=none"
            )
        with _defaults(_QUIET if target == LOCAL else _QUIET | _PROMPT), _kept_sigterm():
            import ray

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
            _shutdown()
            self._owned = self.local = False
        if self._watcher is not None:
            # Killed before its pipe closes: the process ids it knows may be others' by now.
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

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

    def _target(self) -> str:
        """Return ``local``, ``auto`` (only to look on this machine) or ``host:port``."""
        address = self.address
        source = f"cluster.address={address}"
        if address == AUTO and os.environ.get("RAY_ADDRESS"):
            address = os.environ["RAY_ADDRESS"]
            source = f"RAY_ADDRESS={address}"
            if address == LOCAL:
                raise InputError(f"{source} names no Ray to join: set cluster.address=local")
        if address.startswith("ray://"):
            raise InputError(
                f"{source}: Ray Client cannot drive this: use `ray job submit`, or run on a "
                "machine of the cluster and give host:port"
            )
        if address not in (LOCAL, AUTO):
            _split(address, source)
        return address

    def _start_local(self) -> None:
        import ray

        self._log("Starting Ray on this machine")
        _prepare_token()
        try:
            ray.init(
                address=LOCAL,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:
            _shutdown()
            raise DfshieldError(
                f"Ray did not start on this machine: {_line(error)}: {_START_HINT}"
            ) from error
        except BaseException:
            _shutdown()
            raise
        self._owned = self.local = True
        self._watcher = _watch()

    def _join(self, target: str) -> None:
        import ray
        from ray.exceptions import RayError

        if target != AUTO:
            _reach(target)
        try:
            with _mute_stderr():
                ray.init(address=target, logging_level=logging.ERROR, log_to_driver=False)
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            _shutdown()
            raise InputError(_why_not_joined(target, error)) from error
        except BaseException:
            _shutdown()
            raise
        self._owned = True
        where = ray.get_runtime_context().gcs_address
        self._log(f"Joined the Ray at {where}: {len(self.nodes())} node(s)")


def _split(address: str, source: str) -> tuple[str, int]:
    hint = "write local, auto, none or host:port"
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{source}: {error}: {hint}") from None
    if host is None or not port or parts.netloc != address:
        raise InputError(f"{source} is no address of a Ray: {hint}")
    return host, port


def _reach(address: str) -> None:
    """Fail in seconds where Ray would try for a quarter of an hour."""
    try:
        socket.create_connection(_split(address, address), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise InputError(
            f"no Ray answers at {address}: {_line(error)}: give the address that `ray start "
            "--head` printed, or set cluster.address=local"
        ) from None


def _why_not_joined(target: str, error: BaseException) -> str:
    shown = "this machine" if target == AUTO else target
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(_line(cause))
        cause = cause.__cause__ or cause.__context__
    text = " ".join(texts)
    if "Version mismatch" in text:
        return f"the Ray at {shown} differs from the one here: {texts[0]}"
    if "uthentication token" in text:
        return (
            f"the Ray at {shown} refuses or lacks a token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
        )
    if "No node info found" in text:
        return (
            f"this machine is no node of the Ray at {shown}: run `ray start --address` here, or "
            "run on the cluster with `ray job submit`"
        )
    if target == AUTO and "Could not find" in text:
        return (
            "cluster.address=auto finds no Ray on this machine: set RAY_ADDRESS=host:port or "
            "cluster.address=local"
        )
    return (
        f"the Ray at {shown} cannot be joined: {texts[0]}: give the port of its GCS (6379 unless "
        "chosen otherwise), not the dashboard's or Ray Client's"
    )


def _shutdown() -> None:
    import ray

    ray.shutdown()


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
    """Keep Ray's C++ from writing to the terminal why it cannot connect: the error says it."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Take back what Ray does to SIGTERM: a handler of its own, and a stack trace in C++."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _prepare_token() -> None:
    """Make sure that the token of a local Ray is readable by its owner only, from its first byte.

    Ray itself would write it with the permissions that the umask leaves.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    location = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(location) if location else Path.home() / ".ray" / "auth_token"
    try:
        if not path.exists():
            _write_token(path)
        if path.stat().st_mode & 0o077:
            with suppress(PermissionError):  # another user's, or mounted: it is theirs to decide
                path.chmod(0o600)
    except OSError as error:
        raise InputError(
            f"{path}: Ray's token cannot be kept there: {error.strerror}: set RAY_AUTH_TOKEN_PATH "
            "to a file that can be written"
        ) from None


def _write_token(path: Path) -> None:
    from ray._private.authentication.authentication_token_generator import (
        generate_new_authentication_token,
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(generate_new_authentication_token())
        # A link appears whole, and only once: of two processes that start Ray, both read the same.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()


def _watch() -> subprocess.Popen[bytes]:
    """Start a process that kills Ray's agents once this process is gone.

    Linux kills the raylet and the GCS with the driver, and workers follow within 3 s; but the
    agents first try for a minute to tell the dead GCS about it.
    """
    psutil = importlib.import_module("psutil")  # comes with Ray, and has no type information
    agents = [
        str(child.pid)
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[:1] in (["ray::DashboardAgent"], ["ray::RuntimeEnvAgent"])
    ]
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -KILL "$@"', "ray-agents", *agents],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
