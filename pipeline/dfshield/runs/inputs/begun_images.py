"""What a configuration leaves to the surrogate images that there are."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from dfshield.config import DEFAULT_SYNTHESIZER, Config
from dfshield.errors import InputError
from dfshield.runs.inputs.synthesizer import recorded_synthesis
from dfshield.runs.layout import RunLayout
from dfshield.runs.records import read_record
from dfshield.synthesis import NEW_HOLDOUTS


def as_begun(config: Config, layouts: Iterable[RunLayout]) -> Config:
    """Return a configuration that says how hold-out images are weighted, where it has not said so.

    Those of a new data set are as the default has it; one that was begun, by any release, goes on
    by its own rule, so that a finished run stays finished.

    Args:
        config: of a run.
        layouts: where sets may have been begun: the first one decides.
    """
    method = config.synthesis.method
    if method.name != DEFAULT_SYNTHESIZER or method.options["holdout"] is not None:
        return config
    rules = (rule for layout in layouts for rule in _rules(layout))
    method = method.model_copy(update={"holdout": next(rules, NEW_HOLDOUTS)})
    return config.model_copy(
        update={"synthesis": config.synthesis.model_copy(update={"method": method})}
    )


def _rules(layout: RunLayout) -> Iterator[str]:
    """Give by which rule hold-outs of a run were made, as sets and students tell.

    A student tells it still when its set is gone. A record that is broken is for whoever needs the
    stage to name.
    """
    for seed in layout.seeds:
        for folder in (layout.synthetic(seed), layout.student(seed)):
            with suppress(InputError):
                record = read_record(folder)
                if record is not None:
                    yield from _rule_of(record["identity"])


def _rule_of(identity: Mapping[str, Any]) -> Iterator[str]:
    while "surrogate" in identity:  # a student, or a set that is derived from another one
        identity = identity["surrogate"]
    made = recorded_synthesis(identity).method
    if made.name == DEFAULT_SYNTHESIZER:
        yield made.options["holdout"]
