"""What the specification of a stage says, and the list of all stages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dfshield.checks import nearest
from dfshield.errors import InputError

if TYPE_CHECKING:  # the command line shows the list of stages without waiting for torch
    from dfshield.config import Config
    from dfshield.report import Section
    from dfshield.runs.context import RunContext
    from dfshield.storage import Folder


@dataclass(frozen=True)
class Traces:
    """What a stage has left behind.

    Attributes:
        folder: of the stage.
        seed: which of several, as the folder is called; None for the only one.
        events: of the whole run, in order, as far as they still tell something; see
            `dfshield.runs.watching.event_digest.condensed`.
        at_work: whether a driver is at work on the run.
        settings: the configuration that the run keeps.
    """

    folder: "Folder"
    seed: str | None
    events: list[dict[str, Any]]
    at_work: bool
    settings: Mapping[str, Any]


class Line(NamedTuple):
    """A line of the status table."""

    what: str
    state: str
    progress: str = ""


def _no_objection(_config: "Config", _asked: Sequence[str]) -> str | None:
    return None


def _always(_context: "RunContext", _seed: int) -> bool:
    return True


def _never(_config: "Config") -> bool:
    return False


def _recorded(traces: Traces) -> dict[str, Any]:
    from dfshield.runs.records import recorded_state

    return recorded_state(traces.folder)


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    Its functions import what they need when they are called, so that `dfshield --help` is quick.

    Attributes:
        name: in the pipeline, on the command line and in the status.
        help: of its command; the first paragraph stands in the list of commands.
        folder: its folder, in that of the run or, where it is done for each seed, of the seed.
        run: does it for a seed (the first one, where it is done once), going on where it stopped,
            and returns what there is to hand to the caller.
        result: what its folder holds, in words: ``Student``; left out where nobody need know.
        per_seed: whether it is done for each seed of a run; else once.
        needs: stages that come before it; one of which there is nothing yet has to be done first.
        identity: returns all that its result depends on. A stage that has one keeps it in its
            folder with whether it is done; see `dfshield.runs.records`.
        status: returns a JSON value of how far it is; by default what its record says.
        lines: makes lines of the status table of that value; by default one with its state.
        options: of its command, beside the configuration: ``as_json``, ``replan``, ``plan``.
        implied: whether it is done before others of this configuration though it was not asked
            for, since it costs little.
        wanted: whether there is anything to do for a seed, as far as the configuration says.
        check: looks at a configuration and at the names of all stages that were asked for, before
            any work; returns why the stage is left out, or None.
        in_sweep: whether the trials of a sweep share its result, or each does it on its own; None
            leaves it out of sweeps.
        section: returns what it adds to the report's page for a seed, or None.
    """

    name: str
    help: str
    folder: str
    run: Callable[["RunContext", int], Any]
    result: str = ""
    per_seed: bool = True
    needs: tuple[str, ...] = ()
    identity: Callable[["RunContext", int], Mapping[str, Any]] | None = None
    status: Callable[[Traces], Any] = _recorded
    lines: Callable[[Any], Sequence[Line]] | None = None
    options: tuple[str, ...] = ("as_json",)
    implied: Callable[["Config"], bool] = _never
    wanted: Callable[["RunContext", int], bool] = _always
    check: Callable[["Config", Sequence[str]], str | None] = _no_objection
    in_sweep: Literal["shared", "trial"] | None = None
    section: Callable[["RunContext", int], "Section | None"] | None = None

    def status_lines(self, state: Any) -> Sequence[Line]:
        """Return the lines of the status table of a value that `status` returned."""
        if self.lines is not None:
            return self.lines(state)
        return [Line(self.name, str(state["state"]))]


class Stages(Mapping[str, Stage]):
    """Stages by name, in the order of the pipeline."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._stages = {stage.name: stage for stage in stages}

    def register(self, stage: Stage) -> Stage:
        """Add a stage, for this process, right behind the last one that it needs.

        Raises:
            InputError: if its name or folder is taken, or it needs a stage that there is not.
        """
        for known in self._stages.values():
            if stage.name == known.name or stage.folder == known.folder:
                raise InputError(f"stage {stage.name!r}: {known.name!r} is registered already")
        for need in stage.needs:
            self.find(need)
        place = max((list(self).index(need) + 1 for need in stage.needs), default=0)
        listed = list(self._stages.values())
        listed.insert(place, stage)
        self._stages = {one.name: one for one in listed}
        return stage

    def find(self, name: str) -> Stage:
        """Return the stage of a name.

        Raises:
            InputError: for an unknown one, with the nearest.
        """
        if name not in self._stages:
            raise InputError(f"stage {name!r} is unknown: {nearest(name, self)}")
        return self._stages[name]

    def __getitem__(self, name: str) -> Stage:
        return self._stages[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)
