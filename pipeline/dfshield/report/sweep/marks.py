"""What a reader must know before trusting a figure: signs that need no colour."""

from collections.abc import Iterable
from dataclasses import dataclass

from dfshield.report.scores import FLAG_MEANING
from dfshield.report.sweep.settings import Measure, Setting
from dfshield.results import REFERENCE_MARK


@dataclass(frozen=True)
class Mark:
    """A finding: its sign in pictures, its name in tables, and what it means."""

    sign: str
    name: str
    meaning: str


COLLAPSED = Mark("✕", "collapsed", FLAG_MEANING["collapsed"])
BELOW_FLOOR = Mark("▼", "below the floor", FLAG_MEANING["below the floor"])
FAILED = Mark("!", "failed", "it ended in an error; see the list of trials")
STOPPED = Mark("■", "stopped early", "ended before its last epoch by the scheduler; not in a mean")
UNFINISHED = Mark("…", "not finished", "waiting, running or interrupted")
MISSING = Mark("?", "not measured", "it ran to its end without this figure")
REPEATS = Mark(
    "=",
    "repeats another",
    "at this K its τ lets the same gradients pass as another's: both give the same student",
)
BELOW_BOUND = Mark(
    "▽",
    "clean below the bound",
    "its clean figure is below the share of the best one's that a recommended setting must have",
)
REFERENCE = Mark(
    REFERENCE_MARK,
    "not data-free",
    "a reference, trained on real images, for comparison with what the teacher alone gives",
)
RECOMMENDED = "★"


@dataclass(frozen=True)
class Raised:
    """A mark on a setting, with the number of its seeds that have it."""

    mark: Mark
    count: int
    total: int

    @property
    def sign(self) -> str:
        """For a picture: ``"✕"``, or ``"✕ 1/3"`` where it is not every seed."""
        return self._of(self.mark.sign, f" {self.count}/{self.total}")

    @property
    def name(self) -> str:
        """For a table: ``"collapsed"``, or ``"collapsed (1 of 3 seeds)"``."""
        return self._of(self.mark.name, f" ({self.count} of {self.total} seeds)")

    def _of(self, text: str, share: str) -> str:
        return text if self.count == self.total else text + share


def marks_of(setting: Setting, measure: Measure | None = None) -> tuple[Raised, ...]:
    """Return the marks of a setting.

    Args:
        setting: with all its seeds.
        measure: below the floor, or missing, counts in this figure; None: below in any.
    """
    trials = setting.trials
    counts = {
        COLLAPSED: sum(trial.collapsed for trial in trials),
        BELOW_FLOOR: sum(
            any(_concerns(measure, label) for label in trial.below_floor) for trial in trials
        ),
        FAILED: sum(trial.state == "failed" for trial in trials),
        STOPPED: sum(trial.state == "stopped" for trial in trials),
        UNFINISHED: sum(t.state in ("waiting", "running", "interrupted") for t in trials),
        REPEATS: len(trials) if setting.repeats else 0,
        BELOW_BOUND: len(trials) if setting.below_bound else 0,
        REFERENCE: sum(not trial.data_free for trial in trials),
    }
    if measure is not None:
        known = [trial.figure(measure.source, measure.key) for trial in setting.done]
        counts[MISSING] = known.count(None)
    return tuple(Raised(mark, n, len(trials)) for mark, n in counts.items() if n)


def _concerns(measure: Measure | None, label: str) -> bool:
    return measure is None or (measure.source, measure.key) == ("test", label)


def legend(raised: Iterable[Raised]) -> list[str]:
    """Return what the signs in a picture mean, each said once."""
    marks = dict.fromkeys(one.mark for one in raised)
    return [f"{mark.sign} {mark.name}: {mark.meaning}." for mark in marks]
