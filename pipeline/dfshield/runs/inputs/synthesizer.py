"""The synthesizer of a configuration, and how a data set's identity tells of it."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dfshield.config import DEFAULT_SYNTHESIZER, SynthesisConfig, with_current_keys
from dfshield.errors import InputError
from dfshield.synthesis import SYNTHESIZERS, Synthesizer


def synthesizer_of(synthesis: SynthesisConfig) -> Synthesizer:
    """Return the synthesizer that a configuration names."""
    return SYNTHESIZERS.make(synthesis.method.name, **synthesis.method.options)


def image_settings(synthesis: SynthesisConfig) -> dict[str, Any]:
    """Return what of a configuration's section the images depend on, as identities hold it.

    The options of the default synthesizer stand beside ``batch_size``, as they always have; any
    other stands under ``method``. The version of its algorithm is left out while it is the first.
    """
    method = synthesis.method.model_dump(mode="json")
    version = SYNTHESIZERS.find(synthesis.method.name).algorithm
    if method["name"] == DEFAULT_SYNTHESIZER:
        own = {key: value for key, value in method.items() if key != "name"}
    else:
        own = {"method": method}
    settings = {"synthesis": {"batch_size": synthesis.batch_size, **own}}
    return settings if version == 1 else {**settings, "algorithm": {"synthesizer": version}}


def recorded_synthesis(identity: Mapping[str, Any]) -> SynthesisConfig:
    """Return the section of a configuration that an identity tells of.

    Raises:
        InputError: if it does not tell how the images were made.
    """
    settings = identity.get("synthesis")
    try:
        current = with_current_keys({"synthesis": settings})["synthesis"]
        return SynthesisConfig.model_validate(current)
    except ValidationError:
        raise InputError("its manifest does not tell how the images were made") from None
