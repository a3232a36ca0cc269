"""Reports on the machines of a cluster, from one small task on each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, no_type_check

from dfshield import __version__
from dfshield.distributed.cluster.session import Node
from dfshield.runs.doctor.gpus import CudaReport

if TYPE_CHECKING:
    from ray import ObjectRef

_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Probe:
    """A file that lies in a folder which all machines are to share.

    Attributes:
        uri: the folder.
        marker: name of the file.
        nonce: its content.
    """

    uri: str
    marker: str
    nonce: bytes


@dataclass(frozen=True)
class NodeReport:
    """The state of one node.

    Attributes:
        node: which.
        unusable: why dfshield cannot work there; the fields below are then empty.
        lost: whether that is because the node did not answer.
        versions: of python (major.minor), torch, dfshield and ray.
        cuda: whether torch can use CUDA there, and the GPUs that it sees.
        skew: seconds by which its clock surely differs from the driver's.
        free_bytes: on the disk where Ray keeps its files.
        storage: why the folder cannot be used from there; empty if it can.
    """

    node: Node
    unusable: str = ""
    lost: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    cuda: CudaReport = field(default_factory=CudaReport)
    skew: float = 0.0
    free_bytes: int = 0
    storage: str = ""


def ask_nodes(nodes: Sequence[Node], probe: Probe | None) -> list[NodeReport]:
    """Return one report a node, all nodes being asked at once.

    Args:
        nodes: those to ask; none of them needs a free CPU or GPU.
        probe: the file that each is to find and to write beside; None asks for none.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look: Any = _look_task()
    sent = time.time()
    plain = None if probe is None else (probe.uri, probe.marker, probe.nonce)
    refs = [
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node.id, soft=False),
            # The task asks for no GPU, which a busy cluster would make it wait for; clusters can
            # be told to hide the GPUs from such tasks.
            runtime_env={"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}},
        ).remote(__version__, plain)
        for node in nodes
    ]
    return [_answer(node, ref, sent) for node, ref in zip(nodes, refs, strict=True)]


def _look_task() -> object:
    """Return the remote function that looks at the node it runs on."""
    import ray

    @ray.remote(max_calls=1)  # a process that lived on would hold memory of the GPUs
    @no_type_check  # a run-time type checker would wrap it in an object that cannot be pickled
    def look(version: str, probe: tuple[str, str, bytes] | None) -> dict[str, object]:
        # Pickled by value, since it is a function inside a function: a node without dfshield, or
        # with a version that lacks this module, can run it and report that.
        import platform
        import shutil
        import tempfile
        import time

        try:
            import torch

            import dfshield
            from dfshield.storage import Folder
        except ImportError as error:
            return {"unusable": f"dfshield cannot be imported there ({error}): install it"}
        found = {
            "versions": {
                "dfshield": dfshield.__version__,
                "python": ".".join(platform.python_version_tuple()[:2]),
                "torch": str(torch.__version__),
                "ray": ray.__version__,
            },
            "free_bytes": shutil.disk_usage(tempfile.gettempdir()).free,
            "clock": time.time(),
        }
        if dfshield.__version__ != version:
            return found  # its storage may be another
        from dfshield.runs.doctor.gpus import look_at_gpus

        found["cuda"] = look_at_gpus()
        if probe is None:
            return found
        uri, marker, nonce = probe
        try:
            folder = Folder.at(uri)
            if not folder.exists(marker) or folder.read_bytes(marker) != nonce:
                return found | {
                    "storage": f"storage.path {folder} is another folder there than here: give "
                    "one that all machines share"
                }
            own = f"{marker}-{ray.get_runtime_context().get_node_id()}"
            folder.write_bytes(own, nonce)
            folder.delete(own)
        except dfshield.errors.DfshieldError as error:
            found["storage"] = f"storage.path cannot be written there: {error}"
        return found

    return look


def _answer(node: Node, ref: "ObjectRef[dict[str, Any]]", sent: float) -> NodeReport:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError

    try:
        found = ray.get(ref, timeout=_TIMEOUT_S)
    except GetTimeoutError:
        reason = (
            f"it did not answer within {_TIMEOUT_S:.0f} s: look at its load with `ray status`, or "
            "remove it from the cluster"
        )
        return NodeReport(node, reason, lost=True)
    except RayTaskError as error:
        reason = f"it cannot run dfshield's tasks: {_last_line(error)}"
        return NodeReport(node, f"{reason}: install the packages of this machine there")
    except RayError as error:
        reason = f"it was lost: {_last_line(error)}: give the same command again"
        return NodeReport(node, reason, lost=True)
    if "clock" in found:
        clock = found.pop("clock")
        found["skew"] = max(0.0, sent - clock, clock - time.time())
    return NodeReport(node, **found)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[-1].split()) if lines else type(error).__name__
