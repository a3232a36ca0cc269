"""Addresses of Ray: which one a setting means, and why one cannot be joined."""

import os
import socket
from urllib.parse import urlsplit

from dfshield.errors import InputError, one_line

LOCAL = "local"
AUTO = "auto"

_CONNECT_TIMEOUT_S = 5.0


def target_of(address: str) -> str:
    """Return what ``cluster.address`` stands for: ``local``, ``auto`` or ``host:port``.

    RAY_ADDRESS decides what ``auto`` is; where it is not set, the Ray that runs on this machine.

    Raises:
        InputError: for an address that cannot be used.
    """
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
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"{source} is a dashboard, where `ray job submit` works; to run on a machine of "
            "the cluster itself, give auto there, without RAY_ADDRESS, or host:port"
        )
    if address not in (LOCAL, AUTO):
        _split(address, source)
    return address


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


def check_reachable(address: str) -> None:
    """Fail in seconds where Ray would try for a quarter of an hour.

    Raises:
        InputError: if nothing listens at ``host:port``.
    """
    try:
        socket.create_connection(_split(address, address), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise InputError(
            f"no Ray answers at {address}: {one_line(error)}: give the address that `ray start "
            "--head` printed, or set cluster.address=local"
        ) from None


def join_failure(target: str, error: BaseException) -> str:
    """Return in one line why a Ray could not be joined, and what to do.

    Args:
        target: its address.
        error: what ``ray.init`` raised.
    """
    shown = "this machine" if target == AUTO else target
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = " ".join(texts)
    if "Version mismatch" in text:
        return f"the Ray at {shown} differs from the one here: {one_line(error)}"
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
        f"the Ray at {shown} cannot be joined: {one_line(error)}: give the port of its GCS (6379 "
        "unless chosen otherwise), not the dashboard's or Ray Client's"
    )
