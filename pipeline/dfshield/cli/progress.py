"""Progress for people: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_SAMPLES = 0.5


class _Amount(ProgressColumn):
    """``400/2,200 images, 51.3/s, 0:00:35 left``; at the end the time that it took."""

    def render(self, task: Task) -> Text:
        parts = [f"{task.completed:,.0f}/{task.total or 0:,.0f} {task.fields['unit']}"]
        elapsed = task.finished_time
        if elapsed is None:
            rate, time_told = task.speed, _left(task.time_remaining)
        else:
            rate = (task.completed - task.fields["begun_with"]) / max(elapsed, 0.001)
            time_told = f"in {timedelta(seconds=round(elapsed))}"
        if rate and rate > 0:
            parts.append(f"{rate:,.1f}/s")
        if time_told:
            parts.append(time_told)
        return Text(", ".join(parts), style="progress.data.speed")


def _left(seconds: float | None) -> str:
    return "" if seconds is None or seconds < 0 else f"{timedelta(seconds=round(seconds))} left"


class _Bar(Progress):
    """One bar, and a line below it for what is told beside the progress."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            told = [task.fields[name] for name in ("detail", "retries") if task.fields[name]]
            if told:
                text = f"  {', '.join(told)}"
                yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")


class TerminalObserver:
    """Shows a progress bar for each piece of long work, with rate and remaining time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = self._new_progress()

    def _new_progress(self) -> Progress:
        return _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),  # the only column that gives way on a narrow terminal
            _Amount(table_column=Column(no_wrap=True)),
            console=self._console,
        )

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Show a new bar below what is on the screen."""
        self._progress.stop()  # work that is begun again has not ended its bar
        self._progress = self._new_progress()
        self._task = self._progress.add_task(
            title, total=total, completed=done, unit=unit, begun_with=done, detail="", retries=""
        )
        self._total, self._retries = total, 0
        self._waiting, self._sampled = 0.0, time.monotonic()
        self._progress.start()

    def advance(self, amount: float) -> None:
        """Move the bar; what several workers tell at once is one sample of the rate."""
        self._waiting += amount
        now = time.monotonic()
        if now - self._sampled >= SECONDS_BETWEEN_SAMPLES:
            self._progress.update(self._task, advance=self._waiting)
            self._waiting, self._sampled = 0.0, now

    def detail(self, text: str) -> None:
        """Change the text below the bar."""
        self._progress.update(self._task, detail=text)

    def retried(self) -> None:
        """Count, below the bar."""
        self._retries += 1
        self._progress.update(self._task, retries=retries_told(self._retries))

    def end(self) -> None:
        """Leave the finished bar on the screen."""
        self._progress.update(self._task, completed=self._total)
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        self._progress.stop()


class LineObserver:
    """Prints plain lines: at the start, every half minute, and at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Say what begins."""
        self._title, self._total, self._unit = title, total, unit
        self._done: float = done
        self._begun_with = done
        self._detail, self._retries = "", 0
        self._started = self._last = time.monotonic()
        self.say(f"{title}: {done:,.0f}/{total:,.0f} {unit}")

    def advance(self, amount: float) -> None:
        """Count, and say so twice a minute."""
        self._done += amount
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(f"{self._title}: {self._told(now)}")

    def _told(self, now: float) -> str:
        rate = (self._done - self._begun_with) / (now - self._started)
        parts = [f"{self._done:,.0f}/{self._total:,.0f} {self._unit}", f"{rate:.1f}/s"]
        if rate > 0:
            parts.append(_left((self._total - self._done) / rate))
        if self._detail:
            parts.append(self._detail)
        if self._retries:
            parts.append(retries_told(self._retries))
        return ", ".join(parts)

    def detail(self, text: str) -> None:
        """Keep the text for the next line."""
        self._detail = text

    def retried(self) -> None:
        """Count for the next line."""
        self._retries += 1

    def end(self) -> None:
        """Say how long it took."""
        self.say(f"{self._title}: done in {time.monotonic() - self._started:.1f} s")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing to give back."""


def retries_told(count: int) -> str:
    """Return a number of retries in words."""
    return "1 retry" if count == 1 else f"{count} retries"
