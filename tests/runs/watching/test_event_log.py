"""The event log where nothing can be appended to."""

import pytest

from dfshield.errors import DfshieldError, InputError
from dfshield.runs.watching import event_log
from dfshield.runs.watching.event_log import EVENTS_FOLDER, EventLog, read_events
from dfshield.storage import Folder


@pytest.fixture
def root():
    folder = Folder.at("memory://events-of-a-run")
    yield folder
    folder.remove()


def numbers(root):
    return [event["n"] for event in read_events(root)]


def test_events_go_out_together_and_come_back_in_order(root, monkeypatch):
    log = EventLog(root)
    for n in range(3):
        log.emit("x", n=n)
    assert read_events(root) == []
    log.flush()
    log.flush()
    assert numbers(root) == [0, 1, 2]
    log.emit("x", n=3)
    log.flush()
    assert len(root.list(EVENTS_FOLDER)) == 1
    assert numbers(root) == [0, 1, 2, 3]
    monkeypatch.setattr(event_log, "SECONDS_BETWEEN_WRITES", 0.0)
    log.emit("x", n=4)
    assert numbers(root)[-1] == 4


def test_a_long_log_is_several_objects(root, monkeypatch):
    monkeypatch.setattr(event_log, "SEGMENT_BYTES", 200)
    log = EventLog(root)
    for n in range(30):
        log.emit("x", n=n)
        log.flush()
    assert len(root.list(EVENTS_FOLDER)) > 5
    assert numbers(root) == list(range(30))


def test_two_drivers_write_their_own_objects(root):
    logs = [EventLog(root), EventLog(root)]
    for n in range(10):
        logs[n % 2].emit("x", n=n)
        logs[n % 2].flush()
    assert len(root.list(EVENTS_FOLDER)) == 2
    assert sorted(numbers(root)) == list(range(10))


def test_what_a_store_does_not_take_is_kept_unless_it_refuses(root, monkeypatch):
    log = EventLog(root)
    log.emit("x", n=0)
    with monkeypatch.context() as down:
        down.setattr(Folder, "write_bytes", raising(DfshieldError))
        log.flush()
        down.setattr(Folder, "write_bytes", raising(InputError))
        with pytest.raises(InputError):
            log.flush()
    log.emit("x", n=1)
    log.flush()
    assert numbers(root) == [0, 1]


def raising(error):
    def write(*_):
        raise error("down")

    return write
