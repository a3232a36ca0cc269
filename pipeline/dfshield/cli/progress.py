"""Progress for people: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from dfshield.runs.watching.wording import format_rate, format_retries

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_SAMPLES = 0.5
SECONDS_OF_A_RATE = 300.0


class _Amount(ProgressColumn):
    """``400/2,200 images, 51.3/s, 0:00:35 left``; at the end the time that it took."""

    def render(self, task: Task) -> Text:
        return Text(_amount(task), style="progress.data.speed")


def _amount(task: Task) -> str:
    """Return how far a piece of work is.

    Rate and time left are shown once work was done twice: the first of it may have compiled.
    """
    parts = [f"{task.completed:,.0f}/{task.total or 0:,.0f} {task.fields['unit']}"]
    elapsed = task.finished_time
    if elapsed is None:
        rate, left = task.speed, task.time_remaining
        time_told = "" if left is None else f"{timedelta(seconds=round(left))} left"
    else:
        rate = (task.completed - task.fields["begun_with"]) / max(elapsed, 0.001)
        time_told = f"in {timedelta(seconds=round(elapsed))}"
    return ", ".join(part for part in (*parts, format_rate(rate), time_told) if part)


def _beside(task: Task) -> list[str]:
    """Return what is told beside the progress."""
    return [task.fields[name] for name in ("detail", "retries") if task.fields[name]]


class _Bar(Progress):
    """One bar, and a line below it for what is told beside the progress."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if beside := _beside(task):
                text = f"  {', '.join(beside)}"
                yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")


class _Observer:
    """Keeps count of one piece of long work after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = self._new_progress()

    def _new_progress(self) -> Progress:
        return Progress(
            disable=True, get_time=time.monotonic, speed_estimate_period=SECONDS_OF_A_RATE
        )

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Begin to count."""
        self._progress.stop()  # work that is begun again has not ended its bar
        self._progress = self._new_progress()
        self._task = self._progress.add_task(
            title, total=total, completed=done, unit=unit, begun_with=done, detail="", retries=""
        )
        self._total, self._retries = total, 0
        self._waiting, self._sampled = 0.0, time.monotonic()

    def advance(self, amount: float) -> None:
        """Count; what several workers tell at once is one sample of the rate."""
        self._waiting += amount
        now = time.monotonic()
        if now - self._sampled >= SECONDS_BETWEEN_SAMPLES:
            self._progress.update(self._task, advance=self._waiting)
            self._waiting, self._sampled = 0.0, now

    def detail(self, text: str) -> None:
        """Change what is told beside the progress."""
        self._progress.update(self._task, detail=text)

    def retried(self) -> None:
        """Count, beside the progress."""
        self._retries += 1
        self._progress.update(self._task, retries=format_retries(self._retries))

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """The work is done."""
        self._progress.update(self._task, completed=self._total)
        self._progress.stop()

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        self._progress.stop()


class TerminalObserver(_Observer):
    """Shows a progress bar for each piece of long work, with rate and remaining time."""

    def _new_progress(self) -> Progress:
        return _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),  # the only column that gives way on a narrow terminal
            _Amount(table_column=Column(no_wrap=True)),
            console=self._console,
            get_time=time.monotonic,
            speed_estimate_period=SECONDS_OF_A_RATE,
        )

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Show a new bar below what is on the screen."""
        super().begin(title, total=total, done=done, unit=unit)
        self._progress.start()


class LineObserver(_Observer):
    """Prints plain lines: at the start, every half minute, and at the end."""

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Say what begins."""
        super().begin(title, total=total, done=done, unit=unit)
        self._started = self._last = time.monotonic()
        self._tell()

    def advance(self, amount: float) -> None:
        """Count, and say so twice a minute."""
        super().advance(amount)
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        (task,) = self._progress.tasks
        self.say(f"{task.description}: {', '.join([_amount(task), *_beside(task)])}")

    def end(self) -> None:
        """Say how long it took."""
        super().end()
        (task,) = self._progress.tasks
        self.say(f"{task.description}: done in {time.monotonic() - self._started:.1f} s")
