"""What a configuration leaves to the surrogate images that there are."""

from collections.abc import Iterable

from dfshield.config import DEFAULT_SYNTHESIZER, Config
from dfshield.runs.inputs.synthesizer import recorded_synthesis
from dfshield.runs.records import read_record
from dfshield.storage import Folder


def as_begun(config: Config, sets: Iterable[Folder]) -> Config:
    """Return a configuration that says how hold-out images are weighted, where it has not said so.

    Those of a new data set are as the default has it; one that was begun, by any release, goes on
    by its own rule, so that a finished run stays finished.

    Args:
        config: of a run.
        sets: folders of data sets, of which the first one says it that was begun with a rule.

    Raises:
        InputError: if the record of a data set is broken.
    """
    method = config.synthesis.method
    if method.name != DEFAULT_SYNTHESIZER or method.options["holdout"] is not None:
        return config
    begun = (rule for folder in sets if (rule := _rule_of(folder)) is not None)
    method = method.model_copy(update={"holdout": next(begun, "fixed")})
    return config.model_copy(
        update={"synthesis": config.synthesis.model_copy(update={"method": method})}
    )


def _rule_of(folder: Folder) -> str | None:
    """Return by which rule the hold-out of a set is made; None of one that has none, or is not."""
    record = read_record(folder)
    if record is None:
        return None
    identity = record["identity"]
    made = recorded_synthesis(identity.get("surrogate", identity)).method
    return made.options["holdout"] if made.name == DEFAULT_SYNTHESIZER else None
