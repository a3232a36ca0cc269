"""First light on a GPU: everything that nobody has seen there yet, in eight minutes, without Ray.

    python tests/gpu/first_light.py [--out first_light.json] [--only NAME ...] [--rehearse]

Ten stages, each in processes of its own, so that one that crashes, hangs or leaves its GPU in a bad
state costs the others nothing. The file is written anew after every stage; every figure of a stage
is kept as soon as it is known. It never stops early: what this machine lacks is skipped with the
reason, what fails is noted. Exit code 0 when all that is expected holds.

It wants what dfshield depends on, apart from Ray; what is missing stands under ``machine``.
`--rehearse` goes through the same code in a minute on a CPU.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage import FULL, REHEARSAL, LackingError, Stage, run_part, told

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "pipeline"), str(ROOT / "tests" / "attacks")]
# The devices are counted without CUDA, which processes could not use after a fork.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

MINUTES = 7.5
_FORK = multiprocessing.get_context("fork")
_PRELOADED = (
    *("torch", "torch._dynamo", "torch.distributed", "sklearn.datasets", "scipy.stats"),
    *("dfshield.runs.public", "dfshield.cli.stages", "dfshield.cli.tables"),
    *("dfshield.runs.doctor.machine", "dfshield.runs.driver.report", "dfshield.report.page"),
)


@dataclass(frozen=True)
class Spec:
    """One stage.

    Attributes:
        module: which has its functions.
        parts: their names; each runs in a process of its own, after the one before.
        seconds: what it takes on an H200; twice as long and it is ended.
    """

    module: str
    parts: tuple[str, ...]
    seconds: float


STAGES = {
    "machine": Spec("light_machine", ("machine",), 15),
    "agreement": Spec("light_agreement", ("computing", "attacks"), 40),
    "repeats": Spec("light_repeats", ("repeats", "in_a_fresh_process"), 40),
    "synchronisations": Spec("light_speed", ("synchronisations",), 15),
    "speed": Spec("light_speed", ("speed",), 45),
    "graph": Spec("light_graph", ("graph",), 40),
    "group": Spec("light_group", ("group",), 20),
    "memory": Spec("light_memory", ("memory",), 20),
    "compile": Spec("light_compile", ("compiled", "compiled_again"), 140),
    "digits": Spec("light_digits", ("digits",), 85),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("first_light.json"))
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rehearse", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    options = parser.parse_args()
    begun = time.monotonic()
    missing = preload()
    with tempfile.TemporaryDirectory(prefix="first-light-") as work:
        device = "cpu" if options.rehearse else found_device(Path(work), missing)
        if device is None:
            print("Error: torch sees no GPU here: --rehearse goes through it on the CPU")
            return 2
        results: dict[str, Any] = {
            "device": device,
            "rehearsal": options.rehearse,
            "not_imported": missing,
            "stages": {},
        }
        for name in options.only:
            left = 60 * options.minutes - (time.monotonic() - begun)
            stage = Stage(
                Path(work, f"{name}.json"), REHEARSAL if options.rehearse else FULL, device
            )
            results["stages"][name] = done = run_stage(STAGES[name], stage, left)
            results["seconds"] = round(time.monotonic() - begun, 1)
            write(options.out, results)
            print(f"{name:17} {in_words(done)}", flush=True)
    unexpected = [
        f"{name}.{what}"
        for name, done in results["stages"].items()
        for what, holds in done.get("expected", {}).items()
        if not holds
    ]
    failed = [name for name, d in results["stages"].items() if d["state"] not in OK]
    print(
        f"{results['seconds']:.0f} s; not as expected: {', '.join(unexpected + failed) or 'none'}"
    )
    return int(bool(unexpected or failed))


OK = ("done", "skipped")


def preload() -> dict[str, str]:
    """Import what stages use, once for all their processes; return what cannot be, and why."""
    missing = {}
    for name in (*_PRELOADED, *dict.fromkeys(spec.module for spec in STAGES.values())):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001
            missing[name] = told(error)
    return missing


def found_device(work: Path, missing: dict[str, str]) -> str | None:
    """Return ``cuda`` if another process can use it; this one must not try."""
    if "torch" in missing:
        return None
    stage = Stage(work / "device.json", FULL, "cuda")
    run_processes([_note_device], stage, 60)
    return "cuda" if stage.figures.get("available") else None


def _note_device(stage: Stage) -> None:
    import torch

    torch.zeros(1, device="cuda")
    stage.note(available=True)


def run_stage(spec: Spec, stage: Stage, left: float) -> dict[str, Any]:
    """Run a stage within its time and what is left of all of it; return its figures."""
    begun = time.monotonic()
    stage.note(state="done")
    if left < 5:
        stage.note(state="skipped", reason="no time was left")
    else:
        run_processes(
            [_from(spec.module, part) for part in spec.parts], stage, min(2 * spec.seconds, left)
        )
    return {"state": "", "seconds": round(time.monotonic() - begun, 1)} | stage.figures


def _from(module: str, name: str) -> Callable[[Stage], None]:
    def part(stage: Stage) -> None:
        try:
            function = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise LackingError(f"{error.name or error} is not installed") from error
        function(stage)

    return part


def run_processes(parts: list[Callable[[Stage], None]], stage: Stage, seconds: float) -> None:
    """Run parts one after the other, each in a process of its own, while the stage goes well."""
    deadline = time.monotonic() + seconds
    for part in parts:
        process = _FORK.Process(target=run_part, args=(part, stage))
        process.start()
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            stage.note(state="failed", reason=f"ended after {seconds:.0f} s")
            _end(process.pid)
            process.join(10)
        elif process.exitcode:
            stage.note(state="failed", reason=f"its process died (exit code {process.exitcode})")
        if stage.figures.get("state", "done") != "done":
            return


def _end(pid: int | None) -> None:
    """End a process and what it has started."""
    assert pid is not None
    for end in (os.killpg, os.kill):
        try:
            end(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def write(file: Path, results: dict[str, Any]) -> None:
    """Write the file whole, and onto the disk."""
    new = file.with_suffix(".new")
    with new.open("w") as stream:
        json.dump(results, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)


def in_words(done: dict[str, Any]) -> str:
    expected = done.get("expected", {})
    wrong = [name for name, holds in expected.items() if not holds]
    text = f"{done['state']:8} {done['seconds']:6.1f} s"
    text += f"  {sum(expected.values())} of {len(expected)} as expected" if expected else ""
    text += f"; not: {', '.join(wrong)}" if wrong else ""
    return text + (f"  ({done['reason']})" if "reason" in done else "")


if __name__ == "__main__":
    sys.exit(main())
