"""What a configuration leaves to the surrogate images that there are."""

from dfshield.config import DEFAULT_SYNTHESIZER, Config
from dfshield.runs.inputs.synthesizer import recorded_synthesis
from dfshield.runs.layout import RunLayout
from dfshield.runs.records import read_record


def as_begun(config: Config, layout: RunLayout) -> Config:
    """Return a configuration that says how hold-out images are weighted, where it has not said so.

    Those of a new data set are as the default has it; one that was begun, by any release, goes on
    by its own rule, so that a finished run stays finished.

    Raises:
        InputError: if the record of a data set is broken.
    """
    method = config.synthesis.method
    if method.name != DEFAULT_SYNTHESIZER or method.options["holdout"] is not None:
        return config
    records = (read_record(layout.synthetic(seed)) for seed in layout.seeds)
    identity = next((record["identity"] for record in records if record is not None), None)
    holdout = "fixed"
    if identity is not None:
        made = recorded_synthesis(identity.get("surrogate", identity))
        holdout = made.method.options.get("holdout", holdout)
    method = method.model_copy(update={"holdout": holdout})
    return config.model_copy(
        update={"synthesis": config.synthesis.model_copy(update={"method": method})}
    )
