"""The processes of a local Ray: they get no signals of this process and end with it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dfshield.distributed.ray_internals import has_node, without_signal_handlers_of_ray
from dfshield.runs import stop_signals_go_to


class ProcessGroup:
    """A process group that children of this process can join, killed when this process ends.

    Signals for the group of this process, such as Ctrl-C and the SIGTERM of a batch system, do not
    reach them. Linux ends Ray's raylet and GCS with their driver anyhow; but the agents would first
    try for a minute to tell the dead GCS about it.
    """

    def __init__(self) -> None:
        # The leader waits for its standard input to close, and takes the group with it.
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", "read -r _; kill -KILL 0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @contextmanager
    def joined_by_children(self) -> Iterator[None]:
        """Let the processes that Ray starts inside the block begin in this group."""
        _groups_to_join.append(self._leader.pid)
        try:
            yield
        finally:
            _groups_to_join.remove(self._leader.pid)

    def kill(self) -> None:
        """End whatever is left of the group."""
        self._leader.communicate()


_groups_to_join: list[int] = []


def _join_group() -> None:
    for leader in _groups_to_join:
        with suppress(OSError):
            os.setpgid(0, leader)


os.register_at_fork(after_in_child=_join_group)


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer signals to stop while Ray starts or stops inside the block.

    While this process connects to Ray or disconnects, an exception may abort the process or get
    lost: the first signal then waits for the end of the block, a second one does not. At other
    moments a signal interrupts the block at once.
    """
    received: list[int] = []
    interrupt: KeyboardInterrupt | None = None

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > 1 or not has_node():
            raise KeyboardInterrupt

    try:
        with stop_signals_go_to(on_signal), without_signal_handlers_of_ray():
            yield
    except KeyboardInterrupt as raised:
        interrupt = raised
    for late in received:
        signal.raise_signal(late)
    if interrupt is not None:  # the handlers from before the block have not raised
        raise interrupt
