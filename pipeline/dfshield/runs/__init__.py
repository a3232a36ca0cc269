"""The pipeline itself: stages, identities, events, status, and who executes the work."""

from dfshield.runs.events import Observer, SilentObserver
from dfshield.runs.executor import Engine, Executor, InProcessExecutor, Job, Task, Worker
from dfshield.runs.interrupt import terminate_as_interrupt
from dfshield.runs.layout import RunLayout
from dfshield.runs.pipeline import Run, StageName
from dfshield.runs.status import run_status, verify_run

__all__ = [
    "Engine",
    "Executor",
    "InProcessExecutor",
    "Job",
    "Observer",
    "Run",
    "RunLayout",
    "SilentObserver",
    "StageName",
    "Task",
    "Worker",
    "run_status",
    "terminate_as_interrupt",
    "verify_run",
]
