"""What progress tells of rate and time left, by a clock of its own."""

import io
import time

import pytest
from rich.console import Console

from dfshield.cli.progress import LineObserver, TerminalObserver


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets time pass."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


@pytest.fixture(params=[LineObserver, TerminalObserver])
def shown(request):
    """An observer, and a function that returns the line it shows now."""
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=request.param is TerminalObserver)
    observer = request.param(console)

    def last():
        if request.param is TerminalObserver:
            screen = Console(file=io.StringIO(), width=120)
            screen.print(observer._progress.get_renderable())
            return screen.file.getvalue().splitlines()[0]
        return out.getvalue().splitlines()[-1]

    return observer, last


def work(observer, clock, *steps):
    for seconds in steps:
        clock(seconds)
        observer.advance(1.0)


def test_the_time_that_compiling_took_is_no_part_of_the_rate(shown, clock):
    observer, last = shown
    observer.begin("Training", total=20_000, done=0, unit="updates")
    work(observer, clock, 95)
    assert "left" not in last()  # 95 s an update would be 22 days
    assert "1/20,000 updates" in last()
    work(observer, clock, *[0.5] * 70)
    assert ", 2.0/s, 2:4" in last()
    observer.end()


@pytest.mark.parametrize(
    ("seconds", "told"), [(40, "1.5/min"), (90, "40.0/h"), (0.5, "2.0/s"), (60, "1.0/min")]
)
def test_slow_work_has_a_rate_that_is_not_zero(shown, clock, seconds, told):
    observer, last = shown
    observer.begin("Synthesis", total=100, done=10, unit="images")
    work(observer, clock, *[seconds] * (70 if seconds < 1 else 3))
    assert told in last()
    assert "left" in last()
    assert " 0.0/" not in last()
    observer.end()


def test_work_that_is_begun_again_counts_from_there(shown, clock):
    observer, last = shown
    observer.begin("Synthesis", total=100, done=0, unit="images")
    work(observer, clock, 40, 40)
    observer.begin("Synthesis", total=100, done=1, unit="images")
    assert "1/100 images" in last()
    assert "/min" not in last()
    observer.retried()
    observer.detail("loss 2.5")
    work(observer, clock, 31, 31)
    assert "3/100 images" in last()
    observer.end()


def test_lines_tell_what_stands_beside_the_bar(clock):
    out = io.StringIO()
    observer = LineObserver(Console(file=out, width=120))
    observer.begin("Synthesis", total=4, done=0, unit="images")
    observer.retried()
    observer.detail("loss 2.5")
    work(observer, clock, 31, 31)
    observer.end()
    assert out.getvalue().splitlines() == [
        "Synthesis: 0/4 images",
        "Synthesis: 1/4 images, loss 2.5, 1 retry",
        "Synthesis: 2/4 images, 1.9/min, 0:01:02 left, loss 2.5, 1 retry",
        "Synthesis: done in 62.0 s",
    ]
