"""The canary of a data set on the driver's side: having it made, and telling where it differs."""

from typing import Any

from dfshield.runs.context import RunContext
from dfshield.runs.execution.engine import Engine
from dfshield.runs.watching.events import RunMonitor
from dfshield.runs.work.canary import DIFFERS, CanaryJob
from dfshield.runs.work.synthesis import SynthesisTask
from dfshield.storage import Folder, Manifest, write_manifest


def keep_canary(
    context: RunContext, task: SynthesisTask, manifest: Manifest, *, begins: bool
) -> None:
    """Have a worker make the canary of a data set that begins, or is replanned, and write it.

    A set whose parts come from an older version goes on without one.

    Args:
        context: the run; with its ``replan`` a canary of before does not count.
        task: makes the images.
        manifest: as it stands in the folder of the data set, with the generator, if any.
        begins: whether no part has been made yet.
    """
    anew = context.replan or task.sink == "object_store"  # of which nothing stays
    if not anew and (manifest.canary is not None or not begins):
        return
    job = CanaryJob(task.teacher, task.data, task.synthesis)
    engine = Engine.from_json(manifest.engine)
    digest = context.executor.run(job, engine=engine, monitor=context.monitor)
    if manifest.canary != digest:
        write_manifest(Folder.at(task.data), manifest.model_copy(update={"canary": digest}))


class CanaryMonitor(RunMonitor):
    """The monitor of a run, which warns once if a worker's CPU gives other bytes."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.log, context.observer)
        self._log = context.log
        self._told = False
        self.emit = self._emit

    def _emit(self, event: str, **fields: Any) -> None:
        self._log.emit(event, **fields)
        if event == DIFFERS and not self._told:
            self._told = True
            self.say(
                f"{fields['device']} computes other numbers than the one that the images were "
                "begun on: parts made there are not, to the byte, what that one would make"
            )
