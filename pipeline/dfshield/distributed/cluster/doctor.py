"""Checks of a Ray cluster before a run begins there."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from dfshield.distributed.cluster.auth_token import token_file
from dfshield.distributed.cluster.node_report import NodeReport, ask_nodes
from dfshield.distributed.cluster.session import RaySession
from dfshield.distributed.cluster.survey import other_version, probing
from dfshield.errors import DfshieldError, counted
from dfshield.runs.doctor.gpus import only_counted
from dfshield.runs.doctor.machine import HERE, Check, check, disk
from dfshield.storage import Folder

# Known vulnerabilities of Ray, each with the last version that has it.
_KNOWN = {"CVE-2025-62593": "2.51.99", "CVE-2026-27482": "2.53.99"}
SECONDS_OF_SKEW = 5.0
"""By how much clocks may differ: leases and the order of events depend on them."""
_STATUS_TIMEOUT_S = 60.0


def examine_ray() -> list[Check]:
    """Look at the Ray of this machine and at the token that it would use."""
    try:
        installed = version("ray")
    except PackageNotFoundError:
        remedy = "pip install 'ray[default,train,tune]', or work with cluster.address=none"
        return [check("ray", HERE, "", problem=f"not installed: {remedy}")]
    return [
        check("ray", HERE, installed, warning=known_vulnerabilities(installed)),
        _token_file(),
    ]


def known_vulnerabilities(installed: str) -> str:
    """Return the vulnerabilities of a version of Ray and what to do about them, or ""."""
    known = [name for name, last in _KNOWN.items() if Version(installed) <= Version(last)]
    return f"{installed} has {', '.join(known)}: update it" if known else ""


def _token_file() -> Check:
    path = token_file()
    if not path.exists():
        return check("token file", HERE, "none here")
    mode = path.stat().st_mode & 0o777
    return check(
        "token file",
        HERE,
        f"{path} is readable by its owner only",
        warning=f"{path} has mode {mode:04o}: chmod 600 it" if mode & 0o077 else "",
    )


def examine_cluster(address: str, folder: Folder | None) -> list[Check]:
    """Join a cluster and look at its authentication and at every node.

    Args:
        address: ``auto`` or ``host:port``.
        folder: the folder of the run, which all nodes are to share; None for no run.
    """
    said: list[str] = []
    session = RaySession(address, log=said.append)
    try:
        session.start()
        nodes = session.nodes()
        with ExitStack() as stack:
            probe = None if folder is None else stack.enter_context(probing(folder))
            reports = ask_nodes(nodes, probe)
        where = session.gcs_address
        return [
            check("cluster", where, f"{counted(len(nodes), 'node')} joined"),
            _authentication(where),
            _capacity(reports),
            *(found for report in reports for found in _node(report, reports, folder)),
        ]
    except DfshieldError as error:
        return [check("cluster", address, "", problem=str(error))]
    finally:
        session.close()


def _authentication(address: str) -> Check:
    """Ask the cluster for its status without a token, as anybody who reaches it could."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_AUTH")}
    name = "authentication"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address],
            env=kept | {"RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=_STATUS_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return check(name, address, "", warning="unknown: no answer without a token")
    if done.returncode == 0:
        open_to_all = (
            "none: whoever reaches it can run any code there (CVE-2023-48022): start every node "
            "with RAY_AUTH_MODE=token and the same token"
        )
        return check(name, address, "", warning=open_to_all)
    if "uthentication token" in done.stderr:
        return check(name, address, "by token")
    lines = done.stderr.strip().splitlines()
    return check(name, address, "", warning=f"unknown: {lines[-1] if lines else ''}")


def _capacity(reports: Sequence[NodeReport]) -> Check:
    gpus, cpus = (sum(getattr(r.node, kind) for r in reports) for kind in ("gpus", "cpus"))
    text = f"Ray counts {counted(gpus, 'GPU')} and {counted(cpus, 'CPU')}"
    nothing = f"{text}: no worker fits there now; on a cluster that scales, set cluster.wait"
    return check("capacity", "cluster", text, warning="" if gpus or cpus else nothing)


def _node(
    report: NodeReport, reports: Sequence[NodeReport], folder: Folder | None
) -> Iterator[Check]:
    where = f"node {report.node.host}"
    if report.unusable:
        yield check("node", where, "", problem=report.unusable)
        return
    first = next(other for other in reports if not other.unusable)
    yield check(
        "versions",
        where,
        ", ".join(f"{name} {text}" for name, text in report.versions.items()),
        problem=other_version(report, first),
        warning=known_vulnerabilities(report.versions["ray"]),
    )
    yield _gpus(where, report)
    if folder is not None:
        yield check("shared storage", where, f"{folder} read and written", problem=report.storage)
    yield check(
        "clock",
        where,
        "right",
        warning=f"{report.skew:.0f} s off: let NTP set it" if report.skew > SECONDS_OF_SKEW else "",
    )
    yield disk(where, report.free_bytes)


def _gpus(where: str, report: NodeReport) -> Check:
    by_ray, cuda = report.node.gpus, report.cuda
    text = f"Ray counts {counted(by_ray, 'GPU')}, torch sees {counted(len(cuda.gpus), 'GPU')}"
    if cuda.gpus:
        text += f": {cuda.format()}"
    unusable = f"{text}: {cuda.unusable}" if by_ray and cuda.unusable else ""
    if unusable and not only_counted():
        return check("GPUs", where, "", problem=unusable)
    others = by_ray != len(cuda.gpus) or cuda.usable < len(cuda.gpus)
    remedy = f"{text}: give `ray start` the right --num-gpus, of those that can be used"
    return check("GPUs", where, text, warning=unusable or (remedy if others else ""))
