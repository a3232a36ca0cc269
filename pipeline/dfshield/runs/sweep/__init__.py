"""Sweeps: many students of one surrogate data set, and what their differences tell."""

from dfshield.runs.sweep.cases import require_matrix
from dfshield.runs.sweep.measure import measure_of
from dfshield.runs.sweep.metrics import format_values, metric_of, metrics_of_search, scores_of
from dfshield.runs.sweep.plan import Values, make_trial, source_key, training_seeds
from dfshield.runs.sweep.record import (
    TrialRecord,
    epochs_of,
    measured_so_far,
    read_trial,
    remarks_on,
    standing,
    standing_of,
    trial_folder,
)
from dfshield.runs.sweep.reporting import sweep_data
from dfshield.runs.sweep.status import is_sweep, sweep_status
from dfshield.runs.sweep.study import Ended, InProcessRunner, Study, TrialRunner, in_memory
from dfshield.runs.sweep.sweep import Sweep
from dfshield.runs.sweep.trial import Source, run_trial
from dfshield.runs.watching.event_log import read_events

__all__ = [
    "Ended",
    "InProcessRunner",
    "Source",
    "Study",
    "Sweep",
    "TrialRecord",
    "TrialRunner",
    "Values",
    "epochs_of",
    "format_values",
    "in_memory",
    "is_sweep",
    "make_trial",
    "measure_of",
    "measured_so_far",
    "metric_of",
    "metrics_of_search",
    "read_events",
    "read_trial",
    "remarks_on",
    "require_matrix",
    "run_trial",
    "scores_of",
    "source_key",
    "standing",
    "standing_of",
    "sweep_data",
    "sweep_status",
    "training_seeds",
    "trial_folder",
]
