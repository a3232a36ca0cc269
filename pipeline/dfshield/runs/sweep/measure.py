"""Which hold-out measure the trials of a sweep are compared by."""

from dfshield.config import Config, VariantConfig


def measure_of(config: Config) -> VariantConfig:
    """Return what is measured of every student on the synthetic hold-out.

    ``sweep.metric`` names it where settings are chosen on the hold-out, else ``training.measure``
    does.
    """
    sweep, own = config.sweep, config.training.measure
    if sweep.select_on == "test" or sweep.metric in (None, own.name):
        return own
    return VariantConfig(name=sweep.metric)
