"""Weights & Biases: a run on its servers, or in a folder to be sent later."""

import os

from dfshield.checks import text
from dfshield.errors import InputError
from dfshield.trackers.base import HOME, Point, Recorder, TrackedRun, Tracker


class WeightsAndBiases(Tracker):
    """One run of Weights & Biases, which a resumed run continues.

    ``WANDB_MODE``, ``WANDB_DIR``, ``WANDB_ENTITY`` and the like say how and where.

    Args:
        project: its name. None: as ``WANDB_PROJECT`` says, else ``dfshield``.

    Raises:
        InputError: for a project that is no text, or an empty one.
    """

    name = "wandb"
    package = "wandb"

    def __init__(self, *, project: str | None = None) -> None:
        self.project = None if project is None else text(project, "project")

    def open(self, run: TrackedRun) -> Recorder:
        """Begin or continue the W&B run; see `WandbRun`."""
        return WandbRun(run, self.project)


class WandbRun:
    """Logs to one W&B run; nothing is told of the machine's git, code and console.

    Args:
        run: its settings become the config of the W&B run, its id that of the W&B run.
        project: its name, or None.

    Raises:
        InputError: if no API key is known here; nobody is asked for one.
        wandb.errors.Error: if W&B does not answer; from every method.
    """

    flush_every = 60.0  # W&B has a process of its own that sends

    def __init__(self, run: TrackedRun, project: str | None) -> None:
        identity = run.id()
        import wandb

        offline = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
        if not (offline or wandb.login(prompt=False, verify=False)):
            raise InputError("no API key: run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=project or os.environ.get("WANDB_PROJECT", HOME),
            id=identity,
            name=run.name,
            resume="allow",
            config=dict(run.settings),
            allow_val_change=True,
            reinit="create_new",  # a run that the caller's own program has open is not ours
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True, save_code=False
            ),
        )
        self._groups: set[str] = set()

    def log(self, point: Point) -> None:
        """Hand the values over; each group of metrics has a step of its own."""
        step = f"{point.group}/step"
        if point.group not in self._groups:
            self._groups.add(point.group)
            self._run.define_metric(f"{point.group}/*", step_metric=step)
        self._run.log(point.named() | {step: point.step})

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self, *, failed: bool) -> None:
        """Wait until all is sent, and end the W&B run."""
        self._run.finish(exit_code=int(failed))
