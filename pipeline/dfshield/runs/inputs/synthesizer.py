"""The synthesizer of a configuration, and how a data set's identity tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dfshield.config import (
    BY_METHOD,
    DEFAULT_SYNTHESIZER,
    SynthesisConfig,
    VariantConfig,
    with_current_keys,
)
from dfshield.config.renamed_keys import OF_DSS
from dfshield.errors import InputError
from dfshield.runs.inputs.derived_images import DerivedSynthesizer, source_identity, source_of
from dfshield.synthesis import SYNTHESIZERS, Synthesizer
from dfshield.synthesis.augmentations import AUGMENTATIONS
from dfshield.variant_options import plain


def synthesizer_of(synthesis: SynthesisConfig) -> Synthesizer:
    """Return the synthesizer that a configuration names."""
    if synthesis.augment is not None:
        return DerivedSynthesizer(synthesis)
    return SYNTHESIZERS.make(synthesis.method.name, **synthesis.method.options)


def image_settings(synthesis: SynthesisConfig) -> dict[str, Any]:
    """Return what of a configuration's section the images depend on, as identities hold it.

    Those options of the default synthesizer that may stand beside it in a configuration stand
    beside ``batch_size``, as they always have; its later ones are left out at what a record means
    by that, or if they are None. Any other synthesizer stands under ``method``. The version of its
    algorithm is left out while it is the first. Of a set that is derived from another one,
    ``augment`` and what that one depends on stand there.

    Raises:
        InputError: if there is no set to derive from.
    """
    if synthesis.augment is not None:
        return _augment_settings(synthesis, synthesis.augment)
    method = synthesis.method.model_dump(mode="json")
    version = SYNTHESIZERS.find(synthesis.method.name).algorithm
    own = _of_default(method) if method["name"] == DEFAULT_SYNTHESIZER else {"method": method}
    settings = {"synthesis": {"batch_size": synthesis.batch_size, **own}}
    return settings if version == 1 else {**settings, "algorithm": {"synthesizer": version}}


def _of_default(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return how identities hold the default synthesizer, whose options are as given."""
    defaults = SYNTHESIZERS.recorded_defaults(DEFAULT_SYNTHESIZER)
    beside = {key: value for key, value in method.items() if f"synthesis.{key}" in OF_DSS}
    later = {
        key: value
        for key, value in method.items()
        if key != "name" and key not in beside and value not in (None, defaults[key])
    }
    return {**beside, "method": later} if later else beside


def without_augment(synthesis: SynthesisConfig) -> SynthesisConfig:
    """Return the section whose method makes the images that this one's augmentation changes."""
    return synthesis.model_copy(update={"augment": None, "data": None})


def _augment_settings(synthesis: SynthesisConfig, augment: VariantConfig) -> dict[str, Any]:
    if synthesis.data == BY_METHOD:  # a set that need not be there yet
        source = {"surrogate": image_settings(without_augment(synthesis))}
    else:
        source = source_identity(source_of(synthesis))
    settings = {
        "synthesis": {
            "batch_size": synthesis.batch_size,
            "augment": augment.model_dump(mode="json"),
        },
        **source,
    }
    version = AUGMENTATIONS.find(augment.name).algorithm
    return settings if version == 1 else {**settings, "algorithm": {"augmentation": version}}


def recorded_synthesis(identity: Mapping[str, Any]) -> SynthesisConfig:
    """Return the section of a configuration that an identity tells of.

    Raises:
        InputError: if it does not tell how the images were made.
    """
    settings = identity.get("synthesis")
    try:
        current = with_current_keys({"synthesis": settings})["synthesis"]
        recorded = SynthesisConfig.model_validate(current)
    except ValidationError:
        raise InputError("its manifest does not tell how the images were made") from None
    method = recorded.method
    meant = SYNTHESIZERS.find(method.name).recorded_as
    left_out = {key: value for key, value in meant.items() if method.options[key] is None}
    return recorded.model_copy(update={"method": method.model_copy(update=left_out)})


@dataclass(frozen=True)
class Making:
    """How surrogate images were made, for people.

    Attributes:
        name: of the synthesizer, or of the augmentation of another set.
        summary: what that is.
        options: its options; of an augmentation, also how the other set was made.
        words: all in a few words: the name and those coefficients that are not at their defaults.
    """

    name: str
    summary: str
    options: Mapping[str, Any]
    words: str


def making_of(identity: Mapping[str, Any]) -> Making:
    """Return what an identity tells of how images were made.

    Raises:
        InputError: if it does not tell.
    """
    recorded = recorded_synthesis(identity)
    if recorded.augment is not None:
        name, other = recorded.augment.name, making_of(identity["surrogate"]).words
        options = {**recorded.augment.options, "applied_to": other}
        return Making(name, AUGMENTATIONS.summary(name), options, f"{name} of {other}")
    name, options = recorded.method.name, recorded.method.options
    coefficients = options.get("coefficients") or {}
    usual = plain(SYNTHESIZERS.defaults(name).get("coefficients")) or {}
    changed = [f"{k} {v}" for k, v in coefficients.items() if v != usual.get(k)]
    return Making(name, SYNTHESIZERS.summary(name), options, ", ".join([name, *changed]))
