"""The pipeline itself: stages, identities, events, status, and who executes the work."""

from dfshield.runs.events import Monitor, Observer, SilentMonitor, SilentObserver
from dfshield.runs.executor import (
    Done,
    Engine,
    Executor,
    GroupJob,
    GroupWorker,
    InProcessExecutor,
    Job,
    Task,
    Worker,
    raise_failures,
)
from dfshield.runs.interrupt import (
    StopRequest,
    deferred_interrupt,
    ignore_stop_signals,
    stop_signals_as_interrupt,
    stop_signals_go_to,
)
from dfshield.runs.layout import RunLayout
from dfshield.runs.metrics import Point
from dfshield.runs.pipeline import Run, StageName
from dfshield.runs.planning import StagePlan, plan_stage
from dfshield.runs.status import run_status
from dfshield.runs.tracking import Tracker
from dfshield.runs.verification import Resynthesis, resynthesize, verify_run

__all__ = [
    "Done",
    "Engine",
    "Executor",
    "GroupJob",
    "GroupWorker",
    "InProcessExecutor",
    "Job",
    "Monitor",
    "Observer",
    "Point",
    "Resynthesis",
    "Run",
    "RunLayout",
    "SilentMonitor",
    "SilentObserver",
    "StageName",
    "StagePlan",
    "StopRequest",
    "Task",
    "Tracker",
    "Worker",
    "deferred_interrupt",
    "ignore_stop_signals",
    "plan_stage",
    "raise_failures",
    "resynthesize",
    "run_status",
    "stop_signals_as_interrupt",
    "stop_signals_go_to",
    "verify_run",
]
