"""TensorBoard: event files in the run's folder."""

import os
import tempfile
import time
import uuid
from pathlib import Path

from dfshield.storage import Folder
from dfshield.trackers.base import Point, Recorder, TrackedRun, Tracker

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """Event files in the run's folder, for ``tensorboard --logdir runs/NAME/tensorboard``."""

    name = "tensorboard"

    def open(self, run: TrackedRun) -> Recorder:
        """Begin an event file; see `EventFile`."""
        return EventFile(run.folder.child(FOLDER))


class EventFile:
    """Writes an event file of its own, whoever else has written one into the folder.

    It takes the writer below tensorboardX's ``SummaryWriter``, which writes in a thread of its own
    where errors are lost, and replaces characters in names.

    Args:
        folder: where to; elsewhere than on a local disk the file is written anew with every flush.

    Raises:
        OSError: if it cannot be written; from every method.
        DfshieldError: if a store does not take it; from every method.
    """

    def __init__(self, folder: Folder) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._remote: Folder | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.flush_every = 1.0
        self._is_new = False
        path = folder.local
        if path is None:
            self.flush_every = 30.0
            self._remote = folder
            self._scratch = tempfile.TemporaryDirectory(prefix="dfshield-")
            path = Path(self._scratch.name)
        path.mkdir(parents=True, exist_ok=True)
        # The writer's own names tell seconds and hosts apart, but not two runs in one second.
        suffix = f".{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._writer = EventsWriter(str(path / "events"), suffix)

    def log(self, point: Point) -> None:
        """Add the values to the file."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in point.named().items()
        ]
        event = Event(wall_time=time.time(), step=point.step, summary=Summary(value=values))
        self._writer.write_event(event)
        self._is_new = True

    def flush(self) -> None:
        """Let readers see what was added."""
        if self._is_new:
            self._is_new = False
            self._writer.flush()
            self._upload()

    def close(self, *, failed: bool) -> None:  # noqa: ARG002
        """Write the rest."""
        self._writer.close()
        self._upload()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _upload(self) -> None:
        if self._remote is not None and self._scratch is not None:
            for file in Path(self._scratch.name).iterdir():
                self._remote.write_bytes(file.name, file.read_bytes())
