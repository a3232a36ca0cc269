"""MLflow: a run on a tracking server, or in a folder."""

import os
import re
import time
from typing import Any

from dfshield.checks import text
from dfshield.trackers.base import HOME, Point, Recorder, TrackedRun, Tracker


class MLflow(Tracker):
    """One MLflow run, which a resumed run continues.

    ``MLFLOW_TRACKING_URI`` and the like say where.

    Args:
        experiment: its name. None: as ``MLFLOW_EXPERIMENT_ID`` or ``MLFLOW_EXPERIMENT_NAME`` says,
            else ``dfshield``.

    Raises:
        InputError: for an experiment that is no text, or an empty one.
    """

    name = "mlflow"
    package = "mlflow"

    def __init__(self, *, experiment: str | None = None) -> None:
        self.experiment = None if experiment is None else text(experiment, "experiment")

    def open(self, run: TrackedRun) -> Recorder:
        """Begin or continue the MLflow run; see `MLflowRun`."""
        return MLflowRun(run, self.experiment)


class MLflowRun:
    """Logs to one MLflow run, found again by the id of the run in a tag.

    Args:
        run: its settings become parameters; a parameter that was logged stays as it is.
        experiment: its name, or None.

    Raises:
        mlflow.exceptions.MlflowException: if the server does not answer; from every method.
    """

    flush_every = 5.0

    def __init__(self, run: TrackedRun, experiment: str | None) -> None:
        identity = run.id()
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._values: list[Metric] = []
        self._client = client = MlflowClient()
        home = _experiment_id(client, experiment)
        tag = "dfshield.id"
        found = client.search_runs([home], f"tags.`{tag}` = '{identity}'", max_results=1)
        kept = (
            found[0] if found else client.create_run(home, tags={tag: identity}, run_name=run.name)
        )
        self._run = kept.info.run_id
        client.update_run(self._run, status="RUNNING")
        new = [Param(k, v) for k, v in run.settings.items() if k not in kept.data.params]
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


def _experiment_id(client: Any, name: str | None) -> str:
    known = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if known and name is None:
        return known
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME", HOME)
    experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id if experiment else client.create_experiment(name))
