"""The canary of a data set on the driver's side: keeping it, and telling where it differs."""

from typing import Any

from dfshield.runs.context import RunContext
from dfshield.runs.watching.events import RunMonitor
from dfshield.runs.work.canary import DIFFERS, MADE
from dfshield.storage import Folder, Manifest, write_manifest


def wants_canary(context: RunContext, manifest: Manifest, *, begins: bool) -> bool:
    """Return whether the workers are to make the canary of a data set.

    They do for one that begins or is replanned. One whose parts come from an older version goes on
    without.

    Args:
        context: the run; with its ``replan`` a canary of before does not count.
        manifest: as it stands in the folder of the data set.
        begins: whether no part has been made yet.
    """
    stays = context.config.storage.sink == "parquet"
    return context.replan or not stays or (manifest.canary is None and begins)


class CanaryMonitor(RunMonitor):
    """The monitor of a data set that is made: it keeps the canary, and warns once of other bytes.

    Args:
        context: the run.
        folder: of the data set.
        manifest: as it stands there.
    """

    def __init__(self, context: RunContext, folder: Folder, manifest: Manifest) -> None:
        super().__init__(context.log, context.observer)
        self._log = context.log
        self._folder, self._manifest = folder, manifest
        self._kept: str | None = None
        self._told = False
        self.emit = self._emit

    def _emit(self, event: str, **fields: Any) -> None:
        if event == MADE:
            self._keep(**fields)
            return
        self._log.emit(event, **fields)
        if event == DIFFERS and not self._told:
            self._told = True
            self.say(
                f"{fields['device']} computes other numbers than the one that the images were "
                "begun on: parts made there are not, to the byte, what that one would make"
            )

    def _keep(self, digest: str) -> None:
        """Write the canary into the manifest; all workers tell it, before their first part."""
        if self._kept is not None:
            return
        self._kept = digest
        self._log.emit(MADE, digest=digest)
        if self._manifest.canary != digest:
            write_manifest(self._folder, self._manifest.model_copy(update={"canary": digest}))
