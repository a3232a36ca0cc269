"""Commands of dfshield in processes of their own, which can be ended at a chosen moment."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Forked, since what a command imports takes longer than a small one does. Who calls must not have
# used its GPU: no process can use one after a fork.
_FORK = multiprocessing.get_context("fork")
SECONDS_TO_STOP = 60.0


def called(
    arguments: list[str],
    log: Path,
    until: Callable[[], bool] | None = None,
    by: signal.Signals = signal.SIGKILL,
) -> int | None:
    """Give a command of dfshield, and end it as soon as something holds.

    Args:
        arguments: the command.
        log: where its output goes.
        until: what; None lets it come to its own end.
        by: the signal that ends it; one that does not is followed by SIGKILL.

    Returns:
        Its exit code; less than 0: the signal that ended it.
    """
    process = _FORK.Process(target=_command, args=(arguments, log))
    process.start()
    assert process.pid is not None
    while until is not None and process.is_alive():
        if until():
            os.kill(process.pid, by)
            process.join(SECONDS_TO_STOP)
            process.kill()
            break
        time.sleep(0.002)
    process.join()
    return process.exitcode


def _command(arguments: list[str], log: Path) -> None:
    from dfshield.cli.main import main

    with log.open("w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    sys.argv = ["dfshield", *arguments]
    main()
