"""Stage ``synthesize``: the teacher gives surrogate images, part by part."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dfshield.runs.names as names
from dfshield.errors import InputError
from dfshield.runs.stages.stage import Line, Stage, Traces
from dfshield.runs.watching.wording import format_rate, format_retries

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.runs.context import RunContext

LEFT_OUT = "left out"
"""The state of a run that makes no surrogate images: its method has no such stage."""


def _run(context: "RunContext", seed: int) -> None:
    from dfshield.runs.driver.synthesize import make_images

    make_images(context, seed)


def _identity(context: "RunContext", seed: int) -> Mapping[str, Any]:
    from dfshield.runs.driver.synthesis_plan import synthesis_identity
    from dfshield.runs.driver.teacher import teacher_fingerprint

    return synthesis_identity(context.config, teacher_fingerprint(context), seed)


def _check(config: "Config", asked: Sequence[str]) -> str | None:
    if config.method is not None:
        reason = f"method: {config.method.name} makes its images while it trains: none are stored"
        if len(asked) == 1:
            raise InputError(f"{reason}; run `dfshield train`")
        return reason
    if config.storage.sink == "object_store" and "train" not in asked:
        raise InputError(
            "storage.sink: object_store keeps surrogate images only while a command lasts: "
            "use `dfshield run`, which trains on them, or storage.sink=parquet"
        )
    return None


def _wanted(context: "RunContext", seed: int) -> bool:
    from dfshield.runs.driver.train import student_is_done

    if context.config.training.data is not None or not context.config.surrogate:
        return False
    # Images that no file holds are made for the training alone.
    in_memory = context.config.storage.sink == "object_store"
    return not (in_memory and student_is_done(context, seed))


def _status(traces: Traces) -> dict[str, Any]:
    from dfshield.runs.layout import why_no_images
    from dfshield.runs.watching.synthesis_status import synthesis_state

    state, reason = synthesis_state(traces), why_no_images(traces.settings)
    if state["state"] == "pending" and reason is not None:
        return {"state": LEFT_OUT, "reason": reason}
    return state


def _lines(state: Mapping[str, Any]) -> list[Line]:
    if state["state"] == LEFT_OUT:
        return []
    return [Line("synthesize", state["state"], _progress(state))]


def _progress(state: Mapping[str, Any]) -> str:
    if "parts" not in state:
        return ""
    words = [
        f"{state['parts_done']}/{state['parts']} parts",
        f"{state['images_done']:,}/{state['images']:,} images",
    ]
    generator = state["generator"]
    if generator is not None and generator["steps_done"] < generator["steps"]:
        words.insert(0, f"generator: {generator['steps_done']:,}/{generator['steps']:,} steps")
    words += [f"{len(state[k])} {k}" for k in ("running", "failed") if state[k]]
    if state["eta_seconds"] is not None:
        left = timedelta(seconds=round(state["eta_seconds"]))
        words.append(f"{format_rate(state['images_per_second'])}, {left} left")
    if state["retries"]:
        words.append(format_retries(state["retries"]))
    return ", ".join(words)


SYNTHESIZE = Stage(
    name="synthesize",
    help="""
    Make the surrogate data set from the teacher alone.

    Example: dfshield synthesize examples/digits.yaml synthesis.num_images=4000
    """,
    folder=names.SYNTHETIC,
    run=_run,
    result="Surrogate images",
    needs=("teacher",),
    identity=_identity,
    status=_status,
    lines=_lines,
    options=("as_json", "replan", "plan"),
    wanted=_wanted,
    check=_check,
    in_sweep="shared",
)
