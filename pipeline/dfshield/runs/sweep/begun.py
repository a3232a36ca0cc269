"""The trials that a sweep has begun, as far as they still are trials of it."""

from dfshield.config import Config
from dfshield.errors import InputError
from dfshield.runs.sweep.plan import make_trial
from dfshield.runs.sweep.record import TrialRecord, read_trials
from dfshield.storage import Folder


def trials_begun(config: Config, root: Folder) -> list[TrialRecord]:
    """Return the trials of a sweep that were begun, in the order in which they were.

    Those of a case that is gone, or says something else now, are left out; their folders stay.

    Args:
        config: of the sweep.
        root: its folder.

    Raises:
        InputError: if a record is damaged.
    """
    records = read_trials(root)
    if not config.sweep.cases:
        return records
    return [record for record in records if _is_of(config, record)]


def _is_of(config: Config, record: TrialRecord) -> bool:
    try:
        return make_trial(config, record.values, record.seed).name == record.name
    except InputError:
        return False
