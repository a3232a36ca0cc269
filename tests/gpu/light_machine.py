"""First light, stage ``machine``: what is here, how exact and how fast products are."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F
from stage import LackingError, Stage
from subjects import error_of, ieee, milliseconds

ROOT = Path(__file__).parents[2]


def machine(stage: Stage) -> None:
    stage.note(
        python=platform.python_version(),
        torch=str(torch.__version__),
        built_for_cuda=str(torch.version.cuda),
        hip=str(torch.version.hip),
        triton=installed("triton"),
        cpus=os.cpu_count(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        compiler={name: shutil.which(name) for name in ("cc", "gcc", "g++", "clang++", "nvcc")},
        python_header=Path(sysconfig.get_path("include"), "Python.h").is_file(),
        ray=installed("ray"),
        not_installed=[name for name in dependencies() if importlib.util.find_spec(name) is None],
    )
    device = torch.device(stage.device)
    stage.attempt("nvidia_smi", nvidia_smi)
    stage.attempt("gpu", gpu)
    exactness(stage, device)
    stage.attempt("rates", lambda: rates(device, stage.sizes.product))


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def dependencies() -> list[str]:
    """Return the modules of what dfshield depends on, apart from Ray."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]]
    modules = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL"}
    return [modules.get(name, name) for name in names if name != "ray"]


def nvidia_smi() -> list[str]:
    fields = "name,driver_version,memory.total,mig.mode.current,compute_mode,persistence_mode"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        raise LackingError("there is no nvidia-smi") from None
    return (done.stdout or done.stderr).strip().splitlines()


def gpu() -> dict[str, object]:
    if not torch.cuda.is_available():
        raise LackingError("torch sees no GPU")
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return {
        "name": properties.name,
        "uuid": str(properties.uuid),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "free_gib": round(free / 2**30, 2),
        "total_gib": round(total / 2**30, 2),
    }


def exactness(stage: Stage, device: torch.device) -> None:
    """Compare a convolution and a product with float64, by torch's own settings and by ours."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 32, 24, 24, generator=generator)
    kernels = torch.randn(64, 32, 3, 3, generator=generator)
    left, right = torch.randn(2, 512, 512, generator=generator)

    def convolution(dtype: torch.dtype, where: torch.device) -> torch.Tensor:
        return F.conv2d(images.to(where, dtype), kernels.to(where, dtype), padding=1)

    def product(dtype: torch.dtype, where: torch.device) -> torch.Tensor:
        return left.to(where, dtype) @ right.to(where, dtype)

    both: dict[str, Callable[[torch.dtype, torch.device], torch.Tensor]] = {
        "convolution": convolution,
        "product": product,
    }
    for name, function in both.items():
        exact = function(torch.float64, torch.device("cpu"))
        found = {"cpu": error_of(function(torch.float32, torch.device("cpu")), exact)}
        found["as_torch_starts"] = error_of(function(torch.float32, device), exact)
        for setting in (True, False):
            ieee(tf32=setting)
            key = "tf32" if setting else "ieee"
            found[key] = error_of(function(torch.float32, device), exact)
        found["bfloat16"] = error_of(function(torch.bfloat16, device), exact)
        stage.note(**{f"{name}_error": found})
        stage.expect(f"an IEEE {name} is exact to float32", found["ieee"] < 2e-6)


def rates(device: torch.device, size: int) -> dict[str, float]:
    """Return Tflop/s of products, GB/s of a copy, and microseconds of a small operation."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, size, size, generator=generator).to(device)
    giga = 2 * size**3 / 1e9
    found = {}
    for name, dtype in (("ieee", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        ieee(tf32=name == "tf32")
        a, b = left.to(dtype), right.to(dtype)
        taken = milliseconds(lambda a=a, b=b: a @ b, device, rounds=5)
        found[f"{name}_tflops"] = round(giga / taken, 2)
    ieee()
    source = torch.ones(size * size * 4, device=device)
    target = torch.empty_like(source)
    taken = milliseconds(lambda: target.copy_(source), device, rounds=5)
    found["copy_gb_per_s"] = round(2 * 4 * source.numel() / taken / 1e6, 1)
    small = torch.ones(16, device=device)

    def many() -> None:
        for _ in range(1000):
            small.add_(1.0)

    found["small_operation_us"] = milliseconds(many, device, rounds=3)
    return found
