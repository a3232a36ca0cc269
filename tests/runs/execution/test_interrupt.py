"""What a signal to stop does, and what it is after the block as it was before."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from dfshield.runs import deferred_interrupt, stop_signals_as_interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers():
    """SIGINT as in the foreground, wherever the tests run; all as they were afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_to_stop_is_an_interrupt(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_signals_as_interrupt():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_a_request_and_the_second_is_not(number):
    def asked_twice():
        with deferred_interrupt() as stop:
            assert not stop.requested
            os.kill(os.getpid(), number)
            assert stop.requested
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        asked_twice()


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred_interrupt() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_other_threads_do_without():
    said = []

    def work():
        with deferred_interrupt() as stop:
            said.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


HUNG_UP = """
import os, signal, sys
from dfshield.runs import stop_signals_as_interrupt
try:
    with stop_signals_as_interrupt():
        os.kill(os.getpid(), signal.SIGHUP)
except KeyboardInterrupt:
    print("to whoever still listens", flush=True)
"""


def test_a_log_file_still_hears_of_it_when_the_terminal_is_gone(tmp_path):
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", HUNG_UP], stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "to whoever still listens\n"
