"""Looking at the machines of a cluster before work is sent to them."""

import platform
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, no_type_check

from dfshield import __version__
from dfshield.distributed.session import Node
from dfshield.errors import DfshieldError, InputError
from dfshield.storage import Folder

if TYPE_CHECKING:
    from ray import ObjectRef

_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Survey:
    """What the work can be planned with.

    Attributes:
        device: ``cuda`` if the nodes' GPUs are seen by torch, else ``cpu``.
        torch: version of torch on the nodes.
    """

    device: str
    torch: str


def survey(nodes: Sequence[Node], folder: Folder) -> Survey:
    """Look at every node that would be used, with one small task on each.

    Args:
        nodes: the machines of the cluster.
        folder: the folder that the run is stored in; this machine and all nodes must share it.

    Raises:
        InputError: if a node lacks dfshield, has another version of it or of Python, if the nodes
            differ in their torch or in whether it sees their GPUs, or if a node does not share the
            folder or cannot write into it.
        DfshieldError: if a node does not answer.
    """
    used = tuple(n for n in nodes if n.gpus) or tuple(n for n in nodes if n.cpus)
    if not used:
        raise InputError("the Ray cluster has no node with a CPU or a GPU: add one")
    marker, nonce = f".dfshield-{uuid.uuid4().hex}", uuid.uuid4().bytes
    folder.write_bytes(marker, nonce)
    try:
        findings = _ask(used, folder.uri, marker, nonce)
    finally:
        folder.delete(marker)
    here = {"dfshield": __version__, "python": _python()}
    for node, found in zip(used, findings, strict=True):
        for name, version in here.items():
            _check(name, node, found[name], "this machine", version)
        # The same numbers need the same torch, and half a cluster on its CPUs is never meant.
        _check("torch", node, found["torch"], f"node {used[0].host}", findings[0]["torch"])
        if node.gpus:
            _check("CUDA", node, found["cuda"], f"node {used[0].host}", findings[0]["cuda"])
    cuda = used[0].gpus > 0 and findings[0]["cuda"] == "True"
    return Survey(device="cuda" if cuda else "cpu", torch=findings[0]["torch"])


def _ask(used: Sequence[Node], uri: str, marker: str, nonce: bytes) -> list[dict[str, str]]:
    """Return one finding a node, all nodes being asked at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote
    @no_type_check  # what checks types at run time would wrap it in what cannot be sent
    def look(uri: str, marker: str, nonce: bytes) -> dict[str, str]:
        # Sent as it stands, since a function inside a function is: a node without dfshield, or
        # with one that lacks this module, can run it and say so.
        import platform

        try:
            import torch

            import dfshield
            from dfshield.storage import Folder
        except ImportError as error:
            return {"problem": f"dfshield cannot be imported there ({error}): install it"}
        found = {
            "problem": "",
            "python": ".".join(platform.python_version_tuple()[:2]),
            "torch": str(torch.__version__),
            "dfshield": dfshield.__version__,
            "cuda": str(torch.cuda.is_available()),
        }
        if dfshield.__version__ != version:
            return found  # its storage may be another
        try:
            folder = Folder.at(uri)
            if not folder.exists(marker) or folder.read_bytes(marker) != nonce:
                found["problem"] = (
                    f"storage.path {folder} is another folder there than here: give one that all "
                    "machines share"
                )
                return found
            own = f"{marker}-{ray.get_runtime_context().get_node_id()}"
            folder.write_bytes(own, nonce)
            folder.delete(own)
        except dfshield.errors.DfshieldError as error:
            found["problem"] = f"storage.path cannot be written there: {error}"
        return found

    version = __version__
    refs = [
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node.id, soft=False),
            # The task asks for no GPU, which a busy cluster would make it wait for; clusters can
            # be told to hide the GPUs from such tasks.
            runtime_env={"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}},
        ).remote(uri, marker, nonce)
        for node in used
    ]
    return [_answer(node, ref) for node, ref in zip(used, refs, strict=True)]


def _answer(node: Node, ref: "ObjectRef[dict[str, str]]") -> dict[str, str]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError

    try:
        found = ray.get(ref, timeout=_TIMEOUT_S)
    except GetTimeoutError:
        raise DfshieldError(
            f"node {node.host} did not answer within {_TIMEOUT_S:.0f} s: look at its load with "
            "`ray status`, or remove it from the cluster"
        ) from None
    except RayTaskError as error:
        raise InputError(
            f"node {node.host} cannot run dfshield's tasks: {_last_line(error)}: install the "
            "packages of this machine there"
        ) from None
    except RayError as error:
        raise DfshieldError(
            f"node {node.host} was lost: {_last_line(error)}: give the same command again"
        ) from None
    if found["problem"]:
        raise InputError(f"node {node.host}: {found['problem']}")
    return found


def _check(name: str, node: Node, there: str, other: str, version: str) -> None:
    if there == version:
        return
    if name == "CUDA":
        sees = {"True": "sees", "False": "does not see"}
        raise InputError(
            f"torch on node {node.host} {sees[there]} its GPUs, on {other} it {sees[version]} "
            "them: install a torch for CUDA on all, or take the node away"
        )
    raise InputError(
        f"node {node.host} has {name} {there}, {other} has {version}: install the same one"
    )


def _python() -> str:
    """Return the version as far as pickles depend on it."""
    return ".".join(platform.python_version_tuple()[:2])


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[-1].split()) if lines else type(error).__name__
