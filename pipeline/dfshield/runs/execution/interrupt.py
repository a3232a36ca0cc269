"""Ctrl-C, SIGTERM and a closed terminal at a moment that suits the work."""

import _thread
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals_go_to(handler: Callable[[int], None]) -> Iterator[None]:
    """Call ``handler`` with what asks this process to stop; afterwards all is as it was before.

    A signal that is ignored, as ``nohup`` and the background of a script have it, stays ignored.
    Outside the main thread, where Python delivers no signals, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _write_to_nobody()
        handler(number)

    previous = {
        number: signal.signal(number, on_signal)
        for number in _STOP_SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)


def interrupt_main_thread() -> None:
    """Do to the main thread what a signal to stop would; nothing if it ignores all of them."""
    for number in _STOP_SIGNALS:
        if callable(signal.getsignal(number)):
            _thread.interrupt_main(number)
            return


def ignore_stop_signals() -> None:
    """Let nothing ask this process to stop any more: for one that is about to end."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _write_to_nobody() -> None:
    """Keep what is still said from failing: the terminal is gone."""
    with Path(os.devnull).open("w") as nowhere:
        for descriptor in (1, 2):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere.fileno(), descriptor)


class StopRequest:
    """Whether somebody asked the work to stop."""

    requested = False


@contextmanager
def deferred_interrupt() -> Iterator[StopRequest]:
    """Turn the first signal to stop into a request; the second raises KeyboardInterrupt at once."""
    stop = StopRequest()

    def on_signal(_: int) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    with stop_signals_go_to(on_signal):
        yield stop


@contextmanager
def stop_signals_as_interrupt() -> Iterator[None]:
    """Let every signal to stop raise KeyboardInterrupt in the main thread, as Ctrl-C does."""

    def on_signal(_: int) -> None:
        raise KeyboardInterrupt

    with stop_signals_go_to(on_signal):
        yield
