"""Whether CUDA can be used, by injected devices: what is told, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

from dfshield.distributed.cluster import doctor
from dfshield.distributed.cluster.node_report import NodeReport
from dfshield.distributed.cluster.session import Node
from dfshield.distributed.cluster.survey import require_usable
from dfshield.distributed.executor import RayExecutor
from dfshield.errors import InputError
from dfshield.runs.doctor import gpus as module
from dfshield.runs.doctor import machine
from dfshield.runs.doctor.gpus import CudaReport, GpuReport, convolution, look_at_gpus, why_no_cuda
from dfshield.storage import Folder

GIB = 1 << 30


class Gpus:
    """The part of torch.cuda that is looked at; GPUs by what a convolution on them does."""

    def __init__(self, *results, available=True, init=None):
        self.results, self.available, self._init = results, available, init

    def is_available(self):
        return self.available

    def device_count(self):
        return len(self.results)

    def init(self):
        if self._init is not None:
            raise self._init

    def get_device_properties(self, index):
        return SimpleNamespace(name="NVIDIA X", major=9, minor=0, total_memory=80 * GIB)

    def mem_get_info(self, index):
        return 79 * GIB, 80 * GIB

    def convolution(self, device):
        result = self.results[device.index]
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Return a function that puts GPUs, and versions of torch and driver, in place."""

    def use(cuda, *, built_for="13.0", hip=None, driver="580.1"):
        monkeypatch.setattr(module.torch, "cuda", cuda)
        monkeypatch.setattr(module, "convolution", cuda.convolution)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        monkeypatch.setattr(torch.version, "hip", hip)
        file = tmp_path / "version"
        file.write_text(f"{driver}\n")
        monkeypatch.setattr(module, "DRIVER", file)

    return use


def test_the_convolution_gives_on_a_cpu_what_is_expected_of_a_gpu():
    assert convolution(torch.device("cpu")) == 36.0


def test_gpus_that_compute_are_told_with_driver_and_memory(use):
    use(Gpus(36.0, 36.0))
    report = look_at_gpus()
    assert report.usable == 2
    assert report.unusable == ""
    told = "2 x NVIDIA X, capability 9.0, 79 of 80 GiB free (CUDA 13.0, driver 580.1)"
    assert report.format() == told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"built_for": None}, "torch is built without CUDA"),
        ({"built_for": None, "hip": "6.4"}, "torch is built for ROCm, which is not supported"),
    ],
)
def test_a_torch_for_something_else_is_named(use, options, words):
    use(Gpus(36.0), **options)
    assert words in look_at_gpus().unusable
    assert "cluster.gpus_per_worker=0" in look_at_gpus().unusable


def test_a_driver_that_is_too_old_is_told_by_its_own_words(use):
    old = RuntimeError("The NVIDIA driver on your system\nis too old (found version 11040)")
    use(Gpus(36.0, available=False, init=old))
    assert "is too old (found version 11040)" in why_no_cuda()
    assert "\n" not in why_no_cuda()
    report = look_at_gpus()
    assert (report.usable, report.gpus) == (0, ())


def test_a_gpu_that_fails_or_computes_wrongly_is_told_and_the_others_are_used(use):
    use(Gpus(torch.AcceleratorError("CUDA error: uncorrectable ECC"), 36.0, 35.0))
    report = look_at_gpus()
    assert report.usable == 1
    assert report.unusable == ""
    assert "uncorrectable ECC" in report.format()
    assert "a convolution gives 35 instead of 36" in report.format()
    use(Gpus(35.0))
    assert "no GPU can be computed on (NVIDIA X: a convolution" in look_at_gpus().unusable


# ---------------------------------------------------------------- what becomes of it


@pytest.fixture
def not_only_counted(monkeypatch):
    monkeypatch.delenv(module.ONLY_COUNTED)


def test_a_run_is_refused_with_the_reason(not_only_counted):
    with pytest.raises(InputError, match="Ray counts 2 GPUs on node a, but torch is too old"):
        require_usable("on node a", 2, "torch is too old")
    require_usable("on node a", 2, "")


def test_gpus_may_be_counted_only():
    require_usable("on node a", 2, "torch is too old")


def test_a_local_run_does_not_go_silently_to_the_cpu(not_only_counted, monkeypatch, tmp_path):
    executor = RayExecutor("local", folder=Folder.at(tmp_path))
    executor._session.local = True
    monkeypatch.setattr(executor._session, "nodes", lambda: (Node("1", "here", cpus=8, gpus=2),))
    with pytest.raises(InputError, match="Ray counts 2 GPUs on this machine, but torch") as raised:
        executor._plan_and_engine()
    assert "cluster.gpus_per_worker=0" in str(raised.value)
    monkeypatch.setenv(module.ONLY_COUNTED, "1")
    _, engine = executor._plan_and_engine()
    assert engine.device == "cpu"


def reported(by_ray, cuda):
    return NodeReport(Node("1", "a", cpus=8, gpus=by_ray), cuda=cuda)


GOOD = GpuReport("NVIDIA X", "9.0", 79 * GIB, 80 * GIB)
BAD = GpuReport("NVIDIA X", "9.0", 0, 80 * GIB, problem="uncorrectable ECC")


@pytest.mark.parametrize(
    ("by_ray", "cuda", "verdict", "words"),
    [
        (0, CudaReport("no CUDA"), "ok", "Ray counts no GPUs, torch sees no GPUs"),
        (2, CudaReport("no CUDA"), "failed", "torch sees no GPUs: no CUDA"),
        (2, CudaReport(gpus=(BAD, BAD)), "failed", "no GPU can be computed on"),
        (2, CudaReport(gpus=(GOOD, BAD)), "warning", "uncorrectable ECC"),
        (1, CudaReport(gpus=(GOOD, GOOD)), "warning", "--num-gpus"),
        (2, CudaReport(gpus=(GOOD, GOOD)), "ok", "2 x NVIDIA X"),
    ],
)
def test_doctor_tells_it_of_a_node(not_only_counted, by_ray, cuda, verdict, words):
    check = doctor._gpus("node a", reported(by_ray, cuda))
    assert check.verdict == verdict
    assert words in check.told


@pytest.mark.parametrize(
    ("cuda", "verdicts"),
    [
        (CudaReport("torch is built without CUDA"), []),  # nor is there a GPU
        (CudaReport("torch is built without CUDA", driver="580.1"), ["warning"]),
        (CudaReport(driver="580.1", gpus=(GOOD,)), ["ok"]),
        (CudaReport(driver="580.1", gpus=(GOOD, BAD)), ["warning"]),
    ],
)
def test_doctor_tells_it_of_this_machine(monkeypatch, cuda, verdicts):
    monkeypatch.setattr(machine, "look_at_gpus", lambda: cuda)
    checks = [check for check in machine.examine_machine() if check.name == "GPUs"]
    assert [check.verdict for check in checks] == verdicts
