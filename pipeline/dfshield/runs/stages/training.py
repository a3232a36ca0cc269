"""Stage ``train``: the surrogate images give the student, in updates that can be resumed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dfshield.runs.names as names
from dfshield.runs.stages.stage import Line, Stage, Traces

if TYPE_CHECKING:
    from dfshield.runs.context import RunContext


def _run(context: "RunContext", seed: int) -> None:
    if context.config.method is not None:
        from dfshield.runs.driver.baseline import make_baseline_student

        make_baseline_student(context, seed)
        return
    from dfshield.runs.driver.train import make_student

    make_student(context, seed)


def _identity(context: "RunContext", seed: int) -> Mapping[str, Any]:
    from dfshield.runs.driver.train import training_identity

    return training_identity(context, seed)


def _status(traces: Traces) -> dict[str, Any]:
    from dfshield.runs.watching.training_status import training_state

    return training_state(traces)


def _lines(state: Mapping[str, Any]) -> list[Line]:
    lines = [Line("train", state["state"], _progress(state))]
    if state.get("baseline"):
        lines.append(Line("baseline", "done", _told_of_baseline(state["baseline"])))
    if state.get("holdout"):
        lines.append(Line("hold-out", "done", _agreement(state["holdout"])))
    return lines


def _progress(state: Mapping[str, Any]) -> str:
    if "last_update" not in state:
        return ""
    last = state["last_update"]
    words = [f"epoch {last['epoch'] + 1}", f"loss {last['loss']:.3f}"]
    if "updates" in state and isinstance(last.get("step"), int):
        words.insert(0, f"{last['step']:,} of {state['updates']:,} updates")
    return ", ".join(words)


def _told_of_baseline(told: Mapping[str, Any]) -> str:
    words = [told["name"], f"{told['num_queries']:,} queries ({told['queries']})"]
    if told["diverged"] is not None:
        words.append(f"diverged at step {told['diverged']:,}")
    if told["collapsed"] is not None:
        words.append(f"generator collapsed at step {told['collapsed']:,}")
    return ", ".join(words)


def _agreement(holdout: Mapping[str, Any]) -> str:
    words = (
        f"epoch {holdout['epoch'] + 1}, like the teacher: {holdout['agreement_clean']:.1%}, "
        f"under PGD {holdout['agreement_pgd']:.1%}"
    )
    return f"{words}, collapsed" if holdout["collapsed"] else words


TRAIN = Stage(
    name="train",
    help="""
    Train the student on the surrogate data set.

    Example: dfshield train examples/digits.yaml
    """,
    folder=names.STUDENT,
    run=_run,
    result="Student",
    needs=("teacher", "synthesize"),
    identity=_identity,
    status=_status,
    lines=_lines,
    options=("as_json", "replan", "plan"),
    in_sweep="trial",
)
