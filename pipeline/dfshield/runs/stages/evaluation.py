"""Stage ``evaluate``: teacher and student on real images, clean and under every attack."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dfshield.runs.names as names
from dfshield.runs.stages.stage import Line, Stage, Traces

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.evaluation import EvaluationResult
    from dfshield.report.page import Section
    from dfshield.runs.context import RunContext


def _run(context: "RunContext", seed: int) -> "list[EvaluationResult]":
    from dfshield.runs.driver.evaluate import measure_models

    return measure_models(context, seed)


def _section(context: "RunContext", seed: int) -> "Section | None":
    from dfshield.runs.driver.corruptions import corruptions_section

    return corruptions_section(context, seed)


def _check(config: "Config", asked: Sequence[str]) -> str | None:
    from dfshield.runs.inputs.evaluation_images import require_evaluation_data

    if config.evaluation.data is None and len(asked) > 1:
        return "evaluation.data names no images: no real image is measured"
    require_evaluation_data(config)
    return None


def _status(traces: Traces) -> list[dict[str, Any]]:
    from dfshield.runs.driver.evaluate import result_summaries

    return result_summaries(traces.folder)


def _lines(state: Sequence[Mapping[str, Any]]) -> list[Line]:
    if not state:
        return [Line("evaluate", "pending")]
    return [
        Line(
            "evaluate",
            "done",
            f"{result['model']}, {result['label']}: "
            f"{result['accuracy']:.1%} of {result['num_images']}",
        )
        for result in state
    ]


EVALUATE = Stage(
    name="evaluate",
    help="""
    Measure on real images, clean and under attack: a run's teacher and student, or any model.

    With --model there is no CONFIG: the model is attacked by PGD-20 and AutoAttack, or by what
    evaluation.attacks names. What has been measured is not repeated, and an interrupted
    measurement continues.

    Example: dfshield evaluate examples/digits.yaml evaluation.num_images=100

    Example: dfshield evaluate --model runs/digits/student --data digits

    Example: dfshield evaluate --model python:pkg.mod:factory --weights W.pth --data cifar10:PATH
    """,
    folder=names.EVALUATION,
    run=_run,
    needs=("teacher",),
    status=_status,
    lines=_lines,
    check=_check,
    in_sweep="trial",
    section=_section,
)
