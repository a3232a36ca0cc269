"""The network interface by which the workers of a training group communicate."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig


def choose_interface() -> None:
    """Let gloo and NCCL use the interface by which Ray knows this machine, unless the user chose.

    By itself gloo takes that of the machine's own name, which is the loopback where ``/etc/hosts``
    says so, and waits in vain for workers elsewhere; NCCL takes the first that is not the loopback,
    which may be one of a container bridge.
    """
    own_address: Callable[[], str] = ray.util.get_node_ip_address
    address = own_address()
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address == address for a in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            if name != "lo":  # all are on this machine, where NCCL needs no network
                os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
            return


_TorchBackend: Any = TorchConfig().backend_cls


class _Backend(_TorchBackend):  # type: ignore[misc]  # Ray Train gives its class without a type
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class GroupTorchConfig(TorchConfig):
    """Ray Train's configuration of torch's process group, with the interface chosen."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that sets up the process group."""
        return _Backend
