"""Which hold-out measure the trials of a sweep are compared by."""

from dfshield.config import Config, VariantConfig
from dfshield.training import MEASURES


def measure_of(config: Config) -> VariantConfig:
    """Return what is measured of every student on the synthetic hold-out.

    ``sweep.metric`` names it where settings are chosen on the hold-out, else ``training.measure``
    does.
    """
    named, own = config.sweep.metric, config.training.measure
    elsewhere = config.sweep.select_on == "test" or named == own.name
    if named is None or named not in MEASURES or elsewhere:
        return own
    return VariantConfig(name=named)
