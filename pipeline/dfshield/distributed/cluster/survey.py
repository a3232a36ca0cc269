"""Checks of the machines of a cluster before work is sent to them."""

import platform
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dfshield import __version__
from dfshield.distributed.cluster.node_report import NodeReport, Probe, ask_nodes
from dfshield.distributed.cluster.session import Node
from dfshield.errors import DfshieldError, InputError, counted
from dfshield.runs.doctor.gpus import only_counted
from dfshield.storage import Folder


@dataclass(frozen=True)
class Survey:
    """What the nodes that will be used have in common.

    Attributes:
        device: ``cuda`` if the nodes' GPUs are seen by torch, else ``cpu``.
        torch: version of torch on the nodes.
    """

    device: str
    torch: str


def survey(nodes: Sequence[Node], folder: Folder, *, on_gpus: bool) -> Survey:
    """Check every node that would be used.

    Args:
        nodes: the machines of the cluster.
        folder: the folder that the run is stored in; this machine and all nodes must share it.
        on_gpus: whether the work is for the nodes that have GPUs, or else for those with CPUs.

    Raises:
        InputError: if a node lacks dfshield, has another version of it or of Python, if the nodes
            differ in their torch, if it cannot use a node's GPUs, or if a node does not share the
            folder or cannot write into it.
        DfshieldError: if a node does not answer.
    """
    with probing(folder) as probe:
        reports = ask_nodes([n for n in nodes if (n.gpus if on_gpus else n.cpus)], probe)
    for report in reports:
        if report.unusable:
            error = DfshieldError if report.lost else InputError
            raise error(f"node {report.node.host}: {report.unusable}")
        difference = other_version(report, reports[0])
        if difference:
            raise InputError(f"node {report.node.host} {difference}")
        if report.storage:
            raise InputError(f"node {report.node.host}: {report.storage}")
        if on_gpus:
            require_usable(f"on node {report.node.host}", report.node.gpus, report.cuda.unusable)
    cuda = on_gpus and reports[0].cuda.usable > 0
    return Survey(device="cuda" if cuda else "cpu", torch=reports[0].versions["torch"])


def require_usable(where: str, gpus: int, unusable: str) -> None:
    """Check that GPUs that Ray counts can be used: else the work would be done on the CPU.

    Args:
        where: they are.
        gpus: how many Ray counts.
        unusable: why torch cannot use them; "" if it can.

    Raises:
        InputError: if they cannot, unless they are to be counted only.
    """
    if unusable and not only_counted():
        raise InputError(f"Ray counts {counted(gpus, 'GPU')} {where}, but {unusable}")


@contextmanager
def probing(folder: Folder) -> Iterator[Probe]:
    """Keep a file in the folder for the block, by which nodes recognise the folder as the same."""
    probe = Probe(folder.uri, f".dfshield-{uuid.uuid4().hex}", uuid.uuid4().bytes)
    folder.write_bytes(probe.marker, probe.nonce)
    try:
        yield probe
    finally:
        folder.delete(probe.marker)


def other_version(report: NodeReport, first: NodeReport) -> str:
    """Return how a node differs from this machine or, in its torch, from another node, or "".

    Both have answered. The same numbers need the same torch; which one this machine has does not
    matter.
    """
    here = {"dfshield": __version__, "python": _python_version()}
    torch = {"torch": first.versions["torch"]}
    for where, versions in (("this machine", here), (f"node {first.node.host}", torch)):
        for name, version in versions.items():
            there = report.versions[name]
            if there != version:
                return f"has {name} {there}, {where} has {version}: install the same one"
    return ""


def _python_version() -> str:
    """Return the version as far as pickles depend on it."""
    return ".".join(platform.python_version_tuple()[:2])
