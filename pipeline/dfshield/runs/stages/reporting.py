"""Stage ``report``: the page of the run and the model card of every student."""

from typing import TYPE_CHECKING

import dfshield.runs.names as names
from dfshield.runs.stages.stage import Line, Stage, Traces

if TYPE_CHECKING:
    from dfshield.runs.context import RunContext


def _run(context: "RunContext", _seed: int) -> None:
    from dfshield.runs.driver.report import write_report

    write_report(context)


def _status(traces: Traces) -> bool:
    return traces.folder.exists(names.PAGE)


def _lines(written: bool) -> list[Line]:
    return [Line("report", "done" if written else "pending")]


REPORT = Stage(
    name="report",
    help="""
    Write the page report/index.html and the students' model cards.

    Example: dfshield report examples/digits.yaml
    """,
    folder=names.REPORT,
    run=_run,
    per_seed=False,
    needs=("train",),
    status=_status,
    lines=_lines,
    options=(),
)
