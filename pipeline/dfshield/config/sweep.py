"""The sweep section: which keys vary, over what, and how trials are chosen, run and judged."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator, model_validator

from dfshield.checks import nearest
from dfshield.config.sections import Section
from dfshield.config.values import NAME, Count, Name, Positive, Seed
from dfshield.config.yaml_text import WrittenNumber

Bounds = tuple[float, float]


def _kept_as_written(value: Any, validate: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, WrittenNumber) else validate(value)


Scalar = Annotated[bool | int | float | str | None, WrapValidator(_kept_as_written)]
"""A value of a swept key, whatever that takes."""

SWEEP_PRESETS: dict[str, dict[str, Any]] = {
    "sensitivity-lambda": {
        "training.objective.lambda1": {"grid": [0, 0.01, 0.1, 1, 10, 100]},
        "training.objective.lambda2": {"grid": [0, 0.01, 0.1, 1, 10, 100]},
    },
    "sensitivity-tau": {
        "training.gradrefine.tau": {"grid": [tenth / 10 for tenth in range(11)]},
    },
    "sensitivity-k": {
        "training.gradrefine.num_batches": {"grid": [1, 2, 4, 8, 10, 20, 40]},
    },
    "num-samples": {
        "synthesis.num_images": {"grid": [10_000 * n for n in range(1, 7)]},
    },
    "epsilon": {"threat.eps": {"grid": ["2/255", "4/255", "6/255", "8/255"]}},
}
"""Axes of the paper's studies: tables 25 and 26, table 24, table 23, figure 5 (whose axis is not in
the text: six sizes up to the 60,000 that it settles on), tables 14 and 15."""


class AxisConfig(Section):
    """The values of one key: exactly one of these. Ranges draw as those of Ray Tune do."""

    grid: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = Field(
        None, description="Values: every one in a grid search, else one of them is drawn."
    )
    uniform: Bounds | None = Field(None, description="[low, high], drawn evenly.")
    loguniform: Bounds | None = Field(None, description="[low, high] above 0, even in the log.")
    randint: tuple[int, int] | None = Field(None, description="[low, high): integers below high.")

    @property
    def kind(self) -> str:
        """Which of the fields is given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values listed, or the two ends of the range."""
        values: tuple[Any, ...] = getattr(self, self.kind)
        return (values[0], values[1] - 1) if self.kind == "randint" else values

    @model_validator(mode="after")
    def _one_kind(self) -> "AxisConfig":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}")
        values = getattr(self, given[0])
        if given[0] == "grid":
            if any(values.count(value) > 1 for value in values):
                raise ValueError("grid has a value twice")
            return self
        low, high = values
        if not low < high or not high - low < float("inf"):
            raise ValueError(f"{given[0]}: the first of [low, high] must be below the second")
        if given[0] == "loguniform" and low <= 0:
            raise ValueError("loguniform: both ends must be above 0")
        return self


def _by_path(value: Any) -> Any:
    """Turn nested sections into config paths: ``{a: {b: {grid: []}}}`` to ``{a.b: {grid: []}}``."""
    if not isinstance(value, Mapping):
        return value
    flat: dict[str, Any] = {}
    for key, below in value.items():
        nested = isinstance(below, Mapping) and not below.keys() & AxisConfig.model_fields.keys()
        if nested and below:
            flat |= {f"{key}.{path}": axis for path, axis in _by_path(below).items()}
        else:
            flat[str(key)] = below
    return flat


CASES = "cases"
"""Axes of named cases have the path ``cases.AXIS``; the configuration has no such key."""
_AXIS_NAME = NAME.replace(".", "")  # an axis is the last part of a path
Overrides = dict[str, Any]


def _checked_cases(value: Any) -> Any:
    """Refuse axes and cases that are none, in words that name them."""
    if not isinstance(value, Mapping):
        raise ValueError("a section with a name for every axis was expected")
    for axis, cases in value.items():
        if not re.fullmatch(_AXIS_NAME, str(axis)):
            raise ValueError(f"{axis}: the name of an axis has letters, digits, _ and - alone")
        if not isinstance(cases, Mapping) or not cases:
            raise ValueError(
                f"{axis}: name at least one case with what it sets, as in "
                "{plain: {}, long: {training: {epochs: 200}}}"
            )
        for name, overrides in cases.items():
            if not re.fullmatch(NAME, str(name)):
                raise ValueError(f"{axis}.{name}: a name has letters, digits, '.', _ and - alone")
            if not isinstance(overrides, Mapping):
                raise ValueError(
                    f"{axis}.{name}: the settings of the case were expected, as in "
                    f"{{training: {{epochs: 200}}}} (got {overrides!r})"
                )
    return {str(a): {str(n): o for n, o in cases.items()} for a, cases in value.items()}


class RecommendConfig(Section):
    """What a setting must have to be recommended."""

    keep_clean: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="0.95: only settings whose clean figure is at least that share of the best "
        "one's, on the hold-out or, with select_on test, on the test images. None: any.",
    )


class SweepConfig(Section):
    """One student for every setting and seed, of one surrogate data set where that can be."""

    name: Name = Field(
        "sweep", description="Its folder in the run's folder is sweeps/NAME. Default: the preset's."
    )
    preset: str | None = Field(
        None,
        description=f"Axes of a study of the paper: {', '.join(SWEEP_PRESETS)}.",
        json_schema_extra={"enum": [*SWEEP_PRESETS, None]},
    )
    parameters: Annotated[dict[str, AxisConfig], BeforeValidator(_by_path)] = Field(
        {}, description="By config path: {training.gradrefine.tau: {grid: [0, 0.5]}}."
    )
    cases: Annotated[dict[str, dict[str, Overrides]], BeforeValidator(_checked_cases)] = Field(
        {},
        description="Axes of named cases: AXIS: {CASE: settings that override the configuration's, "
        "written as there}. {} is the configuration as it stands; a teacher of another source "
        "replaces the section `teacher` whole.",
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = Field(
        None,
        description="Seeds of the training of every setting; the surrogate data set is that of "
        "`seed`. None: `seed` alone. As a parameter, `seed` changes the data set as well.",
    )
    search: Literal["grid", "random", "tpe", "tpe-pareto"] = Field(
        "grid",
        description="random: max_trials draws; tpe: Optuna's sampler (pip install optuna); "
        "tpe-pareto: the same for clean against robust accuracy.",
    )
    max_trials: Count | None = Field(None, description="Settings drawn; a grid is cut off there.")
    max_hours: Positive | None = Field(
        None, description="A command begins no trial, and stops those at work, after so long."
    )
    scheduler: Literal["none", "asha"] = Field(
        "none",
        description="asha: stop early what is behind on the synthetic hold-out, by the measure "
        "that settings are chosen by there.",
    )
    grace_epochs: Count = Field(1, description="asha: no trial is stopped before so many.")
    reduction_factor: Annotated[float, Field(gt=1)] = Field(
        3.0, description="asha: one in so many goes on to so many times the epochs."
    )
    select_on: Literal["holdout", "test"] = Field(
        "holdout",
        description="What the recommended setting is chosen by. test: accuracy on the real test "
        "images, which is then no longer an honest estimate.",
    )
    metric: str | None = Field(
        None,
        description="holdout: a measure of `dfshield methods measures` (default: that of "
        "training.measure); test: clean or the label of an attack, as PGD-20 (default: the last "
        "attack).",
    )
    recommend: RecommendConfig = Field(
        RecommendConfig(), description="Which settings may be recommended."
    )
    max_concurrent: Count | None = Field(
        None, description="Trials at once. None: all there is room for."
    )
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="0.5: two trials share a GPU; 0: CPU slots. None: one GPU, or a CPU slot "
        "where there is no GPU.",
    )
    workers_per_trial: Count = Field(
        1, description="Workers that share the training of a trial; each has a whole GPU."
    )

    @property
    def axes(self) -> dict[str, AxisConfig]:
        """Everything that varies by its path: the cases, whose values are names, and the keys."""
        named = {
            f"{CASES}.{axis}": AxisConfig(grid=(*cases,)) for axis, cases in self.cases.items()
        }
        return {**named, **self.parameters}

    @model_validator(mode="before")
    @classmethod
    def _preset_below(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("preset"), str):
            return value
        name = value["preset"]
        if name not in SWEEP_PRESETS:
            raise ValueError(f"preset: {name!r} is unknown: {nearest(name, SWEEP_PRESETS)}")
        given = _by_path(value.get("parameters") or {})
        if not isinstance(given, Mapping):
            return value
        return {"name": name, **value, "parameters": {**SWEEP_PRESETS[name], **given}}

    @model_validator(mode="after")
    def _search_fits_axes(self) -> "SweepConfig":
        ranges = [key for key, axis in self.parameters.items() if axis.kind != "grid"]
        if self.search == "grid" and ranges:
            raise ValueError(
                f"parameters.{ranges[0]}: a grid search needs {{grid: [...]}}; for ranges set "
                "search to random or tpe"
            )
        if self.search != "grid" and self.max_trials is None:
            raise ValueError(f"max_trials: say how many settings search {self.search} may draw")
        if self.seeds is not None and len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be a list of different seeds")
        return self

    @model_validator(mode="after")
    def _cases_differ(self) -> "SweepConfig":
        for axis, cases in self.cases.items():
            names = list(cases)
            for place, name in enumerate(names):
                same = next((one for one in names[:place] if cases[one] == cases[name]), None)
                if same is not None:
                    raise ValueError(f"cases.{axis}: {same} and {name} are the same case")
        return self

    @model_validator(mode="after")
    def _workers_have_whole_gpus(self) -> "SweepConfig":
        if self.workers_per_trial > 1 and self.gpus_per_trial not in (None, 0.0, 1.0):
            raise ValueError(
                f"gpus_per_trial: {self.gpus_per_trial} with {self.workers_per_trial} "
                "workers_per_trial, which cannot share a GPU"
            )
        return self
