"""From the sweep section to trials: each is a whole configuration, checked before any begins."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dfshield.canonical import identity_hash
from dfshield.config import CASES, AxisConfig, Config, config_from, current_key, set_key
from dfshield.errors import InputError
from dfshield.runs.identity import flatten
from dfshield.runs.inputs.synthesizer import image_settings
from dfshield.runs.sweep.cases import (
    check_cases,
    laid_over,
    measured_on,
    named_keys,
    overrides_of,
)
from dfshield.runs.sweep.measure import measure_of
from dfshield.seeds import RngStream, generator

Values = Mapping[str, Any]

_FIXED = (
    "name",
    "preset",
    "seeds",
    "sweep",
    "cluster",
    "storage",
    "trackers",
    "evaluation",
    "audit",
)
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Trial:
    """One student of a sweep.

    Attributes:
        name: its folder; the same values and seed always have the same.
        values: of the swept keys, as the configuration holds them, and the names of cases.
        seed: of the training.
        config: all of it, with these values; its own ``seed`` is that of the surrogate data set.
    """

    name: str
    values: Values
    seed: int
    config: Config


def training_seeds(config: Config) -> tuple[int, ...]:
    """Return the seeds that every setting is trained with."""
    return config.sweep.seeds or (config.seed,)


def make_trial(config: Config, values: Values, seed: int | None) -> Trial:
    """Return the trial of some values of the swept keys.

    Args:
        config: of the sweep.
        values: by config path; of cases, their names by the path of the axis.
        seed: of the training; None is that of the configuration with these values.

    Raises:
        InputError: if the configuration with these values is refused, naming the key.
    """
    tree = config.model_dump(mode="json", exclude={"sweep", "seeds"})
    cases = overrides_of(config, values)
    for overrides in cases.values():
        tree = laid_over(tree, overrides)
    set_key(tree, "teacher.trust_python", config.teacher.trust_python)  # which no dump holds
    variants = {
        "training.objective": config.training.objective,
        "training.schedule": config.training.schedule,
        "training.average": config.training.average,
        "synthesis.method": config.synthesis.method,
        "synthesis.augment": config.synthesis.augment,
        "method": config.method,
    }
    for key, variant in variants.items():
        if variant and values.get(f"{key}.name") not in (None, variant.name):
            set_key(tree, key, {})  # options of one mean nothing to another
    for key, value in values.items():
        if key not in cases:
            set_key(tree, key, value)
    set_key(tree, "training.measure", measure_of(config).model_dump(mode="json"))
    setting = ", ".join(f"{k.removeprefix(f'{CASES}.')}={v}" for k, v in values.items())
    made = config_from(tree, where=f"sweep.{CASES if cases else 'parameters'} ({setting})")
    if made.sweep.axes != config.sweep.axes:
        made = made.model_copy(update={"sweep": config.sweep})
    known = dict(flatten(made.model_dump(mode="json")))
    canonical = {key: known.get(current_key(key), value) for key, value in values.items()}
    chosen = made.seed if seed is None else seed
    name = _name(canonical, chosen, cases)
    return Trial(name, canonical, chosen, made.model_copy(update={"name": f"{config.name}-{name}"}))


def _name(values: Values, seed: int, cases: Mapping[str, Any]) -> str:
    parts = [f"{key.rsplit('.', 1)[-1]}-{value}" for key, value in values.items() if key != "seed"]
    text = re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join([*parts, f"seed-{seed}"]))
    # A case that says something else by the same name makes another trial.
    told = {"cases": dict(cases)} if cases else {}
    digest = identity_hash({"values": dict(values), "seed": seed, **told})
    return f"{text[:_LONGEST_NAME]}-{digest[:8]}"


def source_key(config: Config) -> str:
    """Return a hash of what teacher and images depend on: equal ones are made once."""
    return identity_hash(
        {
            "teacher": config.teacher.model_dump(mode="json"),
            **image_settings(config.synthesis),
            "storage": config.storage.image_dtype,
            "seed": config.seed,
        }
    )[:12]


def check_axes(config: Config) -> None:
    """Refuse what no trial could be made of, before anything is done.

    Raises:
        InputError: naming the key and the value.
    """
    sweep = config.sweep
    if not sweep.axes:
        raise InputError(
            "sweep.parameters: name the keys to vary, as in "
            "sweep.parameters.training.gradrefine.tau='{grid: [0, 0.5]}', or a sweep.preset"
        )
    if config.seeds is not None:
        raise InputError("seeds: a sweep takes one seed for its data, and sweep.seeds for training")
    for key in sweep.parameters:
        _check_key(config, key, where=f"sweep.parameters.{key}")
    for key, where in named_keys(sweep):
        _check_case_key(key, where)
        if not measured_on(key):
            _check_key(config, key, where=where)
    check_cases(config)
    if "seed" in sweep.parameters and sweep.seeds is not None:
        raise InputError("sweep.seeds: not beside sweep.parameters.seed, which varies it already")
    if config.synthesis.num_holdout == 0 and (
        sweep.select_on == "holdout" or sweep.scheduler != "none"
    ):
        raise InputError("synthesis.num_holdout: the sweep judges trials on them; set it above 0")


def _check_case_key(key: str, where: str) -> None:
    if key == "seed":
        raise InputError(f"{where}: name the seeds of all cases in sweep.seeds")
    if key == "threat.norm":
        raise InputError(f"{where}: figures of another norm do not compare; make it another sweep")


def _check_key(config: Config, key: str, *, where: str) -> None:
    of_nothing = ("training.data", "training.checkpoint_every", "synthesis.diversity")
    if key.split(".")[0] in _FIXED or key in of_nothing:
        raise InputError(f"{where}: this key does not change a student, so it cannot be swept")
    if key == "training.measure" or key.startswith("training.measure."):
        raise InputError(f"{where}: settings are compared by it, so it has to be one for all")
    if config.training.data is not None and key.split(".")[0] in ("synthesis", "teacher", "seed"):
        raise InputError(f"{where}: has no effect, since training.data names a finished data set")


def listed_settings(config: Config) -> list[Values] | None:
    """Return the settings of a grid or random search in order; None where a sampler decides.

    Random draws depend on the configuration's seed and their number alone.
    """
    sweep = config.sweep
    if sweep.search == "grid":
        return _corners(config)[: sweep.max_trials]
    if sweep.search == "random":
        return list(_drawn(config))
    return None


def shared_trial(config: Config) -> Trial:
    """Return a trial that stands for all where a sampler decides: they have its teacher and images.

    Raises:
        InputError: if it is refused.
    """
    axes = config.sweep.axes.items()
    return make_trial(config, {k: a.ends[0] for k, a in axes if k.startswith(f"{CASES}.")}, None)


def _corners(config: Config) -> list[Values]:
    axes = config.sweep.axes
    return [dict(zip(axes, v, strict=True)) for v in product(*(a.ends for a in axes.values()))]


def _drawn(config: Config) -> Iterator[Values]:
    assert config.sweep.max_trials is not None
    for index in range(config.sweep.max_trials):
        rng = generator(config.seed, RngStream.SWEEP, index)
        yield {key: _draw(axis, rng) for key, axis in config.sweep.axes.items()}


def _draw(axis: AxisConfig, rng: np.random.Generator) -> Any:
    if axis.grid is not None:
        return axis.grid[int(rng.integers(len(axis.grid)))]
    if axis.randint is not None:
        return int(rng.integers(*axis.randint))
    if axis.uniform is not None:
        return float(rng.uniform(*axis.uniform))
    low, high = axis.ends
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def listed_trials(config: Config) -> list[Trial]:
    """Return the trials that are known beforehand, each once: the settings times the seeds.

    Raises:
        InputError: if any is refused.
    """
    check_axes(config)
    seeds: tuple[int | None, ...] = config.sweep.seeds or (None,)
    settings = listed_settings(config)
    if settings is None:
        corners = [make_trial(config, values, None) for values in _corners(config)]
        _check_references(config, corners)
        if len({source_key(trial.config) for trial in corners}) > 1:
            raise InputError(
                f"sweep.search: {config.sweep.search} varies the training alone (and "
                "synthesis.num_images); use grid or random for what changes the data set"
            )
        return []
    trials = [make_trial(config, values, seed) for values in settings for seed in seeds]
    _check_references(config, trials)
    return list({trial.name: trial for trial in trials}.values())


def _check_references(config: Config, trials: Sequence[Trial]) -> None:
    """Refuse to judge references and baselines on a synthetic hold-out, which they have not.

    Raises:
        InputError: naming the key.
    """
    sweep = config.sweep
    sampled = sweep.search.startswith("tpe") and sweep.select_on == "holdout"
    if all(trial.config.surrogate for trial in trials) or not (
        sampled or sweep.scheduler != "none"
    ):
        return
    key = "search" if sampled else "scheduler"
    raise InputError(
        f"sweep.{key}: {getattr(sweep, key)} judges by the synthetic hold-out, which students of "
        "training.images and of a baseline (method) do not have"
    )
