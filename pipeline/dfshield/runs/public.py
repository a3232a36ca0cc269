"""What other packages use of `dfshield.runs`."""

from dfshield.runs.engines_here import try_engines
from dfshield.runs.execution.engine import Engine
from dfshield.runs.execution.engine_choice import Abilities
from dfshield.runs.execution.in_process import InProcessExecutor
from dfshield.runs.execution.interrupt import (
    StopRequest,
    deferred_interrupt,
    ignore_stop_signals,
    stop_signals_as_interrupt,
    stop_signals_go_to,
)
from dfshield.runs.execution.protocol import (
    AbilitiesJob,
    AcceleratorJob,
    Done,
    Executor,
    GroupJob,
    GroupWorker,
    Job,
    Task,
    Worker,
    raise_failures,
)
from dfshield.runs.execution.reproducibility import Reproducibility
from dfshield.runs.export.export import ExportReport, export_data
from dfshield.runs.layout import RunLayout
from dfshield.runs.pipeline import Run
from dfshield.runs.planning import PlanJob, StagePlan, plan_stage
from dfshield.runs.stages.registry import STAGES
from dfshield.runs.verification import Resynthesis, resynthesize, verify_run
from dfshield.runs.watching.events import (
    Monitor,
    Observer,
    RunMonitor,
    SilentMonitor,
    SilentObserver,
)
from dfshield.runs.watching.status import run_status

__all__ = [
    "STAGES",
    "Abilities",
    "AbilitiesJob",
    "AcceleratorJob",
    "Done",
    "Engine",
    "Executor",
    "ExportReport",
    "GroupJob",
    "GroupWorker",
    "InProcessExecutor",
    "Job",
    "Monitor",
    "Observer",
    "PlanJob",
    "Reproducibility",
    "Resynthesis",
    "Run",
    "RunLayout",
    "RunMonitor",
    "SilentMonitor",
    "SilentObserver",
    "StagePlan",
    "StopRequest",
    "Task",
    "Worker",
    "deferred_interrupt",
    "export_data",
    "ignore_stop_signals",
    "plan_stage",
    "raise_failures",
    "resynthesize",
    "run_status",
    "stop_signals_as_interrupt",
    "stop_signals_go_to",
    "try_engines",
    "verify_run",
]
