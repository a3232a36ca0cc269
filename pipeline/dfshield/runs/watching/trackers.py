"""The trackers that a configuration can name: TensorBoard, MLflow, Weights & Biases."""

import importlib.util
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.runs.identity import flatten
from dfshield.runs.watching.metrics import Point
from dfshield.runs.watching.tracking import Tracker
from dfshield.storage import Folder, redacted

TENSORBOARD_FOLDER = "tensorboard"
ID_FILE = "trackers.json"
"""Holds the random id under which MLflow and Weights & Biases find a run again."""

HOME = "dfshield"
"""The experiment or project of a run, unless the tracker's environment names another."""


def openers_of(config: Config, root: Folder) -> dict[str, Callable[[], Tracker]]:
    """Return what opens each tracker that the configuration names.

    Args:
        config: of the run.
        root: its folder.

    Raises:
        InputError: if the package of one is not installed.
    """
    for name in set(config.trackers) & {"mlflow", "wandb"}:
        # A folder of this name, as W&B makes one, is found too, but has no file.
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise InputError(f"trackers: {name} is not installed: pip install {name}")
    known: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(root.child(TENSORBOARD_FOLDER)),
        "mlflow": lambda: MLflow(config, run_id(root)),
        "wandb": lambda: WeightsAndBiases(config, run_id(root)),
    }
    return {name: known[name] for name in config.trackers}


def run_id(root: Folder) -> str:
    """Return the id of a run, which its folder keeps from the first time on."""
    if not root.exists(ID_FILE):
        root.write_json(ID_FILE, {"id": uuid.uuid4().hex})
    return str(root.read_json(ID_FILE)["id"])


def settings_of(config: Config) -> Iterator[tuple[str, str]]:
    """Give every key of the configuration (``training.gradrefine.tau``) with its value as text."""
    for key, value in flatten(config.model_dump(mode="json")):
        yield key, redacted(str(value))


class TensorBoard:
    """Writes an event file of its own, whoever else has written one into the folder.

    Args:
        folder: where to; elsewhere than on a local disk the file is written anew with every flush.

    Raises:
        OSError: if it cannot be written; from every method.
        DfshieldError: if a store does not take it; from every method.
    """

    def __init__(self, folder: Folder) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._remote: Folder | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.flush_every = 1.0
        self._is_new = False
        path = folder.local
        if path is None:
            self.flush_every = 30.0
            self._remote = folder
            self._scratch = tempfile.TemporaryDirectory(prefix="dfshield-")
            path = Path(self._scratch.name)
        path.mkdir(parents=True, exist_ok=True)
        # The writer's own names tell seconds and hosts apart, but not two runs in one second.
        suffix = f".{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._writer = EventsWriter(str(path / "events"), suffix)

    def log(self, point: Point) -> None:
        """Add the values to the file."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=value) for name, value in point.named().items()
        ]
        event = Event(wall_time=time.time(), step=point.step, summary=Summary(value=values))
        self._writer.write_event(event)
        self._is_new = True

    def flush(self) -> None:
        """Let readers see what was added."""
        if self._is_new:
            self._is_new = False
            self._writer.flush()
            self._upload()

    def close(self, *, failed: bool) -> None:  # noqa: ARG002
        """Write the rest."""
        self._writer.close()
        self._upload()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _upload(self) -> None:
        if self._remote is not None and self._scratch is not None:
            for file in Path(self._scratch.name).iterdir():
                self._remote.write_bytes(file.name, file.read_bytes())


class MLflow:
    """Logs to one MLflow run, which a resumed run goes on in.

    ``MLFLOW_TRACKING_URI`` and the like say where; the experiment is that of
    ``MLFLOW_EXPERIMENT_ID`` or ``MLFLOW_EXPERIMENT_NAME``, or else called ``dfshield``.

    Args:
        config: its keys become parameters; a parameter that was logged stays as it is.
        identity: of the run, a tag by which it is found again.

    Raises:
        mlflow.exceptions.MlflowException: if the server does not answer; from every method.
    """

    flush_every = 5.0

    def __init__(self, config: Config, identity: str) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._values: list[Metric] = []
        self._client = client = MlflowClient()
        experiment = _experiment(client)
        tag = "dfshield.id"
        found = client.search_runs([experiment], f"tags.`{tag}` = '{identity}'", max_results=1)
        run = (
            found[0]
            if found
            else client.create_run(experiment, tags={tag: identity}, run_name=config.name)
        )
        self._run = run.info.run_id
        client.update_run(self._run, status="RUNNING")
        new = [Param(k, v) for k, v in settings_of(config) if k not in run.data.params]
        for first in range(0, len(new), 100):
            client.log_batch(self._run, params=new[first : first + 100])

    def log(self, point: Point) -> None:
        """Collect the values; MLflow takes no other signs in names than these."""
        now = int(time.time() * 1000)
        self._values += [
            self._metric(re.sub(r"[^\w./ :-]", "_", name), value, now, point.step)
            for name, value in point.named().items()
        ]

    def flush(self) -> None:
        """Send what was collected."""
        for first in range(0, len(self._values), 1000):
            self._client.log_batch(self._run, metrics=self._values[first : first + 1000])
        self._values = []

    def close(self, *, failed: bool) -> None:
        """Send the rest and end the MLflow run."""
        self.flush()
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _experiment(client: Any) -> str:
    known = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if known:
        return known
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", HOME)
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))


class WeightsAndBiases:
    """Logs to one W&B run, which a resumed run goes on in.

    ``WANDB_MODE``, ``WANDB_DIR``, ``WANDB_ENTITY`` and the like say how and where; the project is
    that of ``WANDB_PROJECT``, or else called ``dfshield``. Nothing is told of the machine's git,
    code and console.

    Args:
        config: its keys become the run's config.
        identity: of the run, and of the W&B run.

    Raises:
        InputError: if no API key is known here; nobody is asked for one.
        wandb.errors.Error: if W&B does not answer; from every method.
    """

    flush_every = 60.0  # W&B has a process of its own that sends

    def __init__(self, config: Config, identity: str) -> None:
        import wandb

        offline = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
        if not (offline or wandb.login(prompt=False, verify=False)):
            raise InputError("no API key: run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", HOME),
            id=identity,
            name=config.name,
            resume="allow",
            config=dict(settings_of(config)),
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
