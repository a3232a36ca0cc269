"""The results of a sweep as a table: one row per trial, with every setting it was made with."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from dfshield.config import CASES, Config
from dfshield.runs.identity import flatten
from dfshield.runs.sweep.metrics import metric_of
from dfshield.runs.sweep.plan import make_trial
from dfshield.runs.sweep.record import TrialRecord
from dfshield.storage import Folder, redacted

RESULTS = "results"


def write_results(root: Folder, config: Config, records: Sequence[TrialRecord]) -> None:
    """Write ``results.parquet`` and ``results.csv`` into the folder of a sweep.

    Columns: the trial, what settings are chosen by, the names of its cases, its state and figures
    (``holdout.agreement_pgd``, ``test.PGD-20``), and every key of its configuration by its path.
    """
    judged = {"select_on": config.sweep.select_on, "metric": metric_of(config, records)}
    table = _table([_row(config, record, judged) for record in records])
    for suffix, write in (("parquet", parquet.write_table), ("csv", csv.write_csv)):
        buffer = BytesIO()
        write(table, buffer)
        root.write_bytes(f"{RESULTS}.{suffix}", buffer.getvalue())


def _row(config: Config, record: TrialRecord, judged: Mapping[str, str]) -> dict[str, Any]:
    trial = make_trial(config, record.values, record.seed)
    cases = {k: v for k, v in record.values.items() if k.startswith(f"{CASES}.")}
    own = {"trial": record.name, "training_seed": record.seed, **judged, **cases}
    fields = record.model_dump(exclude={"format_version", "name", "values", "seed"})
    left_out = {"sweep", "seeds", "cluster", "trackers", "name"}
    settings = trial.config.model_dump(mode="json", exclude=left_out)
    row = {**own, **dict(flatten(fields)), **dict(flatten(settings))}
    return {k: redacted(value) if isinstance(value, str) else value for k, value in row.items()}


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: Sequence[Any]) -> pa.Array:
    """A column is of numbers or of truth values where all that is known is, else of text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {int, float}:
        same = [float(v) if v is not None and float in kinds else v for v in values]
        return pa.array(same)
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
