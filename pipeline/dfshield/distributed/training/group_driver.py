"""The driver of a training group: runs Ray Train in a thread, and watches it from the main one."""

import threading
import time

import ray
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer

from dfshield.distributed.cluster.head import Head
from dfshield.distributed.intervals import CLUSTER_CHECK_S, POLL_S, WAITING_NOTICE_S
from dfshield.distributed.ray_internals import draining_nodes, kill_train_controllers
from dfshield.distributed.workers.message_queue import Message
from dfshield.distributed.workers.messages import MessageReader
from dfshield.runs import Monitor, StopRequest

ABORT_TIMEOUT_S = 10.0


class FitThread(threading.Thread):
    """``TorchTrainer.fit`` in a thread, so that the main thread handles messages and signals.

    Args:
        trainer: of the group.

    Attributes:
        finished: whether the training has ended well.
        error: with which it ended otherwise.
    """

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="dfshield-train", daemon=True)
        self._trainer = trainer
        self.finished = False
        self.error: Exception | None = None

    def run(self) -> None:
        """Train until the end."""
        try:
            self._trainer.fit()
        except (TrainingFailedError, ray.exceptions.RayError) as error:
            self.error = error
        else:
            self.finished = True

    def abort(self, reader: MessageReader) -> None:
        """End the group and the thread; if Ray were left while the thread waits, Ray would abort.

        Args:
            reader: whose queue this process has started.
        """
        deadline = time.monotonic() + ABORT_TIMEOUT_S
        while self.is_alive() and time.monotonic() < deadline:
            kill_train_controllers(reader.queue)
            self.join(POLL_S)


class GroupDriver:
    """Passes messages of a group to the monitor, and requests to stop to the group.

    Args:
        head: of the cluster.
        reader: of the workers' messages.
        monitor: of the run.
        stop: set by the user's signals.
    """

    def __init__(
        self, head: Head, reader: MessageReader, monitor: Monitor, stop: StopRequest
    ) -> None:
        self.head = head
        self.reader = reader
        self.monitor = monitor
        self.stop = stop
        self.begun = self.stop_sent = False
        self.waiting_since: float | None = time.monotonic()  # None while the group is at work
        self.nodes: dict[str, str] = {}  # of the workers that have started
        self.announced: set[str] = set()  # nodes that drain
        self.last_check = time.monotonic()

    def until_ended(self, fit: FitThread) -> None:
        """Return when the group has ended, well or not.

        Raises:
            KeyboardInterrupt: if it is to be stopped before any worker has started.
            DfshieldError: if the cluster is lost.
        """
        while fit.is_alive():
            fit.join(POLL_S)
            for message in self.reader.deliver(self.monitor):
                self.note(message)
            self.check_cluster()
            self.say_if_waiting()
            if self.stop.requested and not self.begun:
                raise KeyboardInterrupt
            if self.stop.requested and not self.stop_sent:
                self.stop_sent = True
                self.reader.queue.stop.remote()
                self.monitor.say("Stopping after this update; once more stops at once")
        self.reader.deliver(self.monitor)

    def note(self, message: Message) -> None:
        """Note from a message which workers are at work."""
        self.begun = True
        event = message.arguments[0] if message.method == "emit" else None
        if event == "worker_started":
            self.waiting_since = None
            self.nodes[message.fields["worker"]] = message.fields["node"]
        elif event == "worker_lost":
            self.waiting_since = time.monotonic()
            self.nodes.clear()  # the group starts again

    def check_cluster(self) -> None:
        """Notify rank 0, which writes checkpoints, when the node of a worker drains."""
        if time.monotonic() - self.last_check < CLUSTER_CHECK_S:
            return
        self.last_check = time.monotonic()
        if not self.head.answers():
            return
        draining = draining_nodes() - self.announced
        for worker, node in self.nodes.items():
            if node in draining:
                self.announced.add(node)
                self.reader.announce_draining(
                    worker, node, self.monitor, place=worker, notify="rank-0"
                )

    def say_if_waiting(self) -> None:
        """Tell the user if no worker has started for a while."""
        now = time.monotonic()
        if self.waiting_since is not None and now - self.waiting_since > WAITING_NOTICE_S:
            self.waiting_since = now
            self.monitor.say(
                "Waiting for training workers: Ray has no room, or is still starting them"
            )
