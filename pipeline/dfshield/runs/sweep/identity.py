"""What all trials of a sweep have in common: another sweep goes under another name."""

from collections.abc import Mapping
from typing import Any

from dfshield.config import Config, current_key, with_current_keys
from dfshield.runs.driver.train import student_settings
from dfshield.runs.identity import filled, flatten, identity_of, keys_of, nested
from dfshield.runs.inputs.synthesizer import image_settings
from dfshield.runs.inputs.teacher_source import teacher_identity
from dfshield.runs.layout import RunLayout
from dfshield.runs.records import read_record
from dfshield.runs.sweep.cases import varied_keys
from dfshield.runs.sweep.measure import measure_of


def sweep_identity(config: Config, run: RunLayout) -> dict[str, Any]:
    """Return what all trials have in common; a value of an axis may be added later.

    Args:
        config: of the sweep.
        run: where the run lies whose teacher they harden.
    """
    swept = {current_key(key) for key in config.sweep.parameters}
    teacher = teacher_identity(config, read_record(run.teacher))["teacher"]
    sections = {
        "teacher": teacher if "fingerprint" in teacher else config.teacher.model_dump(mode="json"),
        "threat": keys_of(config.threat, ("norm", "eps", "step_size")),
        **image_settings(config.synthesis),
        "storage": keys_of(config.storage, ("image_dtype",)),
        "training": student_settings(
            config.training.model_copy(update={"measure": measure_of(config)}),
            varied=varied_keys(config.sweep),
        ),
        "evaluation": config.evaluation.model_dump(mode="json", exclude={"defences"}),
    }
    if config.method is not None:
        sections["method"] = config.method.model_dump(mode="json")
    sections["synthesis"] |= keys_of(config.synthesis, ("num_images", "num_holdout"))
    common = with_current_keys({"seed": config.seed, **sections})
    kept = nested({key: value for key, value in flatten(common) if key not in swept})
    return identity_of(
        axes=sorted(config.sweep.axes), **{**{name: {} for name in sections}, **kept}
    )


def measured_nothing(identity: Mapping[str, Any]) -> bool:
    """Return whether a sweep of this identity has no real images to measure on."""
    return filled(identity)["evaluation"]["data"] is None
