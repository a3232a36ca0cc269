"""Noticing that the head of a cluster is gone."""

import socket

import pytest

from dfshield.distributed.cluster import head
from dfshield.distributed.cluster.head import Head
from dfshield.errors import DfshieldError


def test_a_head_may_be_silent_for_a_while_and_come_back(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(head.time, "monotonic", lambda: now[0])
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    watched = Head(f"127.0.0.1:{port}")
    assert watched.answers()
    server.close()
    for _ in range(3):
        assert not watched.answers()
        now[0] += 20
    with socket.create_server(("127.0.0.1", port)):
        assert watched.answers()
    assert not watched.answers()
    now[0] += 46
    with pytest.raises(DfshieldError, match=f"127.0.0.1:{port} is gone.*same command again"):
        watched.answers()


def test_waiting_ends_when_it_answers(monkeypatch):
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    server.close()
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            naps.append(socket.create_server(("127.0.0.1", port)))

    port = int(address.rpartition(":")[2])
    monkeypatch.setattr(head.time, "sleep", sleep)
    Head(address).wait()
    naps.pop().close()
    assert len(naps) == 3
