"""Stage ``teacher``: the classifier to harden comes into the run folder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dfshield.runs.names as names
from dfshield.runs.stages.stage import Stage

if TYPE_CHECKING:
    from dfshield.config import Config
    from dfshield.runs.context import RunContext


def _run(context: "RunContext", _seed: int) -> None:
    from dfshield.runs.driver.teacher import make_teacher

    make_teacher(context)


def _identity(context: "RunContext", _seed: int) -> Mapping[str, Any]:
    from dfshield.runs.inputs.teacher_source import teacher_identity
    from dfshield.runs.records import read_record

    return teacher_identity(context.config, read_record(context.layout.teacher))


def _implied(config: "Config") -> bool:
    return config.teacher.train is None


TEACHER = Stage(
    name="teacher",
    help="""
    Bring the teacher into the run folder: imported from its weights, or trained on real images.

    Example: dfshield teacher examples/digits.yaml
    """,
    folder=names.TEACHER,
    run=_run,
    result="Teacher",
    per_seed=False,
    identity=_identity,
    implied=_implied,
    in_sweep="shared",
)
