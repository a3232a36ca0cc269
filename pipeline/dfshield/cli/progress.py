"""Progress for people: bars on a terminal, a line now and then elsewhere."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0


class _Amount(ProgressColumn):
    """``400/2,200 images  51.3/s``."""

    def render(self, task: Task) -> Text:
        speed = task.speed or task.finished_speed
        rate = f"  {speed:.1f}/s" if speed else ""
        amount = f"{task.completed:,.0f}/{task.total or 0:,.0f} {task.fields['unit']}{rate}"
        return Text(amount, style="progress.data.speed")


class TerminalObserver:
    """Shows a progress bar for each piece of long work, with rate and remaining time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = self._new_progress()

    def _new_progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[detail]}", style="dim"),
            TextColumn("{task.fields[retries]}", style="yellow"),
            console=self._console,
        )

    def begin(self, title: str, *, total: int, done: int, unit: str) -> None:
        """Show a new bar below what is on the screen."""
        self._progress.stop()  # work that is begun again has not ended its bar
        self._progress = self._new_progress()
        self._task = self._progress.add_task(
            title, total=total, completed=done, unit=unit, detail="", retries=""
        )
        self._total, self._retries = total, 0
        self._progress.start()

    def advance(self, amount: float) -> None:
        """Move the bar."""
        self._progress.advance(self._task, amount)

    def detail(self, text: str) -> None:
        """Change the text at the end of the bar."""
        self._progress.update(self._task, detail=text)

    def retried(self) -> None:
        """Count, behind the bar."""
        self._retries += 1
        self._progress.update(self._task, retries=_retries_told(self._retries))

    def end(self) -> None:
        """Leave the finished bar on the screen."""
        self._progress.update(self._task, completed=self._total)
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._console.print(text, highlight=False)

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
            left = timedelta(seconds=round((self._total - self._done) / rate))
            parts.append(f"{left} left")
        if self._detail:
            parts.append(self._detail)
        if self._retries:
            parts.append(_retries_told(self._retries))
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


def _retries_told(count: int) -> str:
    return "1 retry" if count == 1 else f"{count} retries"
