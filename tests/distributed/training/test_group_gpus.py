"""Groups whose GPUs cannot train together are refused in one line; and how groups communicate."""

import os
import socket
from types import SimpleNamespace

import psutil
import pytest
import ray

from dfshield.distributed.cluster.network_interface import choose_interface
from dfshield.distributed.cluster.worker_plan import WorkerPlan
from dfshield.distributed.training.group import _trainer
from dfshield.distributed.training.group_gpus import GroupGpu, why_not_together
from dfshield.distributed.training.train_function import TrainArguments
from dfshield.runs import Engine
from dfshield.storage import Folder


def gpus(*names):
    return [GroupGpu(name, f"GPU-{number}") for number, name in enumerate(names)]


A100, H100, MIG = "NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3", "NVIDIA A100 MIG 3g.20gb"


@pytest.mark.parametrize("names", [[A100], [A100] * 4, [MIG]])
def test_equal_gpus_train_together_and_a_slice_alone(names):
    assert why_not_together(gpus(*names)) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (gpus(A100, H100, A100), f"differ ({A100}, {H100})"),
        (gpus(MIG, MIG), "slices of GPUs (MIG)"),
        ([GroupGpu(A100, "GPU-0")] * 2, "the same GPU"),
    ],
)
def test_others_are_refused_with_what_to_do(found, words):
    problem = why_not_together(found)
    assert words in problem
    assert "cluster.num_workers" in problem
    assert "\n" not in problem


@pytest.mark.parametrize(("device", "backend"), [("cuda", "cpu:gloo,cuda:nccl"), ("cpu", "gloo")])
def test_objects_of_a_group_on_gpus_are_sent_from_the_cpu(device, backend, tmp_path):
    engine = Engine(device=device, threads=1, torch="2")
    arguments = TrainArguments(SimpleNamespace(), engine, SimpleNamespace())
    plan = WorkerPlan(2, num_gpus=1.0, num_cpus=0, threads=1)
    trainer = _trainer(arguments, plan, 2, Folder.at(tmp_path), 1)
    assert trainer.backend_config.backend == backend


@pytest.mark.parametrize(("name", "nccl"), [("eth7", "eth7"), ("lo", None)])
def test_gloo_and_nccl_use_the_interface_of_ray(monkeypatch, name, nccl):
    address = SimpleNamespace(family=socket.AF_INET, address="10.1.2.3")
    other = SimpleNamespace(family=socket.AF_INET, address="172.17.0.1")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.1.2.3")
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"docker0": [other], name: [address]})
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == name
    assert os.environ.get("NCCL_SOCKET_IFNAME") == nccl
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "mine")
    choose_interface()
    assert os.environ["NCCL_SOCKET_IFNAME"] == "mine"
