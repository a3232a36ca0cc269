"""The driver of a sweep: runs Ray Tune in a thread, records its trials and stops them."""

import json
import math
import queue
import threading
import time
from pathlib import Path
from typing import Any

from ray import PlacementGroupID, cloudpickle, tune
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial
from ray.util.placement_group import PlacementGroup, remove_placement_group

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.intervals import CLUSTER_CHECK_S
from dfshield.distributed.training.train_function import GROUP_STARTED
from dfshield.distributed.workers.lost_workers import cause_of, reason_of
from dfshield.errors import DfshieldError, UnfitDeviceError, one_line
from dfshield.runs import Monitor
from dfshield.runs.sweep import (
    Ended,
    Study,
    TrialRecord,
    make_trial,
    measured_so_far,
    read_events,
    read_trial,
    trial_folder,
)
from dfshield.storage import Folder

POLL_S = 0.5
SECONDS_TO_STOP = 15.0


class _NotSaved:
    """An object of this process: Tune's own files, which nobody reads, hold it without state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TrialEvents(_NotSaved, Callback):
    """Puts what happens to trials into a queue, from Tune's thread to the driver's.

    Args:
        events: the queue.
    """

    def __init__(self, events: "queue.SimpleQueue[tuple[str, TuneTrial]]") -> None:
        self._events = events

    def on_trial_complete(self, *_: Any, **info: Any) -> None:
        """Note a trial that has ended, or was stopped."""
        self._events.put(("complete", info["trial"]))

    def on_trial_recover(self, *_: Any, **info: Any) -> None:
        """Note a trial whose process died, and which Tune starts again."""
        self._events.put(("recover", info["trial"]))

    def on_trial_error(self, *_: Any, **info: Any) -> None:
        """Note a trial whose process died too often."""
        self._events.put(("error", info["trial"]))


class StopAll(_NotSaved, Stopper):
    """Ends all trials once an event is set.

    Args:
        stopping: the event.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def __call__(self, *_: Any) -> bool:
        """Leave single trials to the scheduler."""
        return False

    def stop_all(self) -> bool:
        """Return whether the event is set."""
        return self._stopping.is_set()


def remove_placement_groups(folder: Folder) -> None:
    """Free the GPUs of the workers of a trial that has ended, well or not.

    Ray Train leaves that to its controller, which dies with the trial's process, or to an actor
    that needs Ray's dashboard. Other trials would wait in vain.

    Args:
        folder: of the trial.
    """
    for event in read_events(folder):
        if event["event"] == GROUP_STARTED:
            placement = PlacementGroupID(bytes.fromhex(event["placement_group"]))
            remove_placement_group(PlacementGroup(placement))


def error_of(trial: TuneTrial) -> BaseException | None:
    """Return the last error of a trial; None if there is none.

    `TuneTrial.get_pickled_error` looks where Tune uploads it to, which may be later than it tells
    of the error.
    """
    file = trial.pickled_error_file
    if file is None or not Path(file).exists():
        return None
    error: BaseException = cloudpickle.loads(Path(file).read_bytes())
    return error


class SweepDriver:
    """Follows Tune's trials until they have ended.

    Args:
        study: the sweep.
        head: of the cluster.
        monitor: of the sweep.
        ended: called with the record of every trial that has ended.
    """

    def __init__(self, study: Study, head: Head, monitor: Monitor, ended: Ended) -> None:
        self.head = head
        self.last_check = time.monotonic()
        self.root = Folder.at(study.root)
        self.config = study.config
        self.monitor = monitor
        self.ended = ended
        self.events: queue.SimpleQueue[tuple[str, TuneTrial]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.error: Exception | None = None
        self.deadline = study.deadline()

    def until_ended(self, tuner: tune.Tuner) -> None:
        """Return when all trials have ended, or the time is over.

        Raises:
            DfshieldError: if Tune itself failed, or the cluster is gone.
        """
        thread = threading.Thread(
            target=self._fit, args=(tuner,), name="dfshield-tune", daemon=True
        )
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                self.record_events()
                if time.monotonic() - self.last_check > CLUSTER_CHECK_S:
                    self.last_check = time.monotonic()
                    self.head.answers()
                if time.monotonic() > self.deadline:
                    self.deadline = math.inf
                    self.stopping.set()
                    self.monitor.say("sweep.max_hours are over: the next command goes on")
        except BaseException:
            self.stopping.set()
            thread.join(SECONDS_TO_STOP)
            raise
        self.record_events()
        if self.error is not None:
            raise DfshieldError(f"Ray Tune failed: {one_line(self.error)}") from self.error

    def _fit(self, tuner: tune.Tuner) -> None:
        try:
            tuner.fit()
        except Exception as error:  # noqa: BLE001 - the driver reports it
            self.error = error

    def record_events(self) -> None:
        """Record what has happened to trials since the last time."""
        while not self.events.empty():
            what, tune_trial = self.events.get()
            point = json.loads(tune_trial.config["point"])
            name = make_trial(self.config, point["values"], point["seed"]).name
            record = read_trial(self.root, name)
            if record is None:
                continue  # it was stopped before it began
            remove_placement_groups(trial_folder(self.root, name))
            error = error_of(tune_trial) if what in ("recover", "error") else None
            if what == "recover":
                reason = reason_of(error)
                self.monitor.emit("worker_lost", worker=name, unit=None, reason=reason)
                self.monitor.say(f"{name}: its process was lost; it goes on on another")
                continue
            if not record.ended:
                if self.stopping.is_set():
                    continue  # the next command goes on with it
                if error is not None and self._left_open(name, error):
                    continue
                record = self._cut_off(record, error, failed=what == "error")
            self.ended(record)

    def _left_open(self, name: str, error: BaseException) -> bool:
        """Return whether a trial failed for want of a GPU that can be used, which may pass."""
        unfit = isinstance(cause_of(error), UnfitDeviceError)
        if unfit:
            self.monitor.say(f"{name}: {reason_of(error)}; the next command goes on with it")
        return unfit

    def _cut_off(
        self, record: TrialRecord, error: BaseException | None, *, failed: bool
    ) -> TrialRecord:
        update: dict[str, Any] = measured_so_far(trial_folder(self.root, record.name))
        if failed:
            update |= {"state": "failed", "reason": reason_of(error)}
        else:
            reason = f"behind the others after epoch {update['epochs']}"
            update |= {"state": "stopped", "reason": reason}
        record = record.model_copy(update=update)
        record.write(self.root)
        return record
