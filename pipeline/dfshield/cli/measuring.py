"""The commands that measure a run's classifiers, or any other: `evaluate` and `audit`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import typer

from dfshield.cli.execution import execute, trusting
from dfshield.cli.options import (
    AsJson,
    Data,
    Defended,
    Eps,
    Model,
    ModelWeights,
    NormName,
    NumImages,
    OptionalConfig,
    Out,
    Overrides,
    SeedNumber,
    Split,
    Surrogate,
    TrustPython,
)
from dfshield.errors import DfshieldError, InputError

if TYPE_CHECKING:
    from dfshield.cli.others import ModelOptions


def evaluate(
    config: OptionalConfig = None,
    overrides: Overrides = None,
    model: Model = None,
    weights: ModelWeights = None,
    data: Data = None,
    split: Split = None,
    eps: Eps = None,
    norm: NormName = None,
    num_images: NumImages = None,
    seed: SeedNumber = None,
    out: Out = None,
    surrogate: Surrogate = None,
    defence: Defended = None,
    trust_python: TrustPython = False,
    as_json: AsJson = False,
) -> None:
    """Do the stage for a run, or measure any model; its specification has the help."""
    options = _model_options(locals())
    if model is not None:
        from dfshield.cli.auditing import evaluate_standalone

        overrides = trusting(_only_overrides(config, overrides), trust_python)
        evaluate_standalone(options, overrides, as_json=as_json)
        return
    config = _required(config)
    options.refuse_with_config()
    execute(config, trusting(overrides, trust_python), ("evaluate",), as_json=as_json)


def audit(
    config: OptionalConfig = None,
    overrides: Overrides = None,
    model: Model = None,
    weights: ModelWeights = None,
    data: Data = None,
    split: Split = None,
    eps: Eps = None,
    norm: NormName = None,
    num_images: NumImages = None,
    seed: SeedNumber = None,
    out: Out = None,
    surrogate: Surrogate = None,
    defence: Defended = None,
    trust_python: TrustPython = False,
    as_json: AsJson = False,
) -> None:
    """Look for masked gradients: a checklist with a verdict per line, of a run or of any model.

    It is the list of Athalye et al. (2018) and Carlini et al. (2019). A line that fails says that
    accuracy under gradient attacks cannot be believed for this model: exit code 3. Warnings, and
    lines that could not be run, leave it 0. Beside the table there is a page with the evidence.

    Example: dfshield audit examples/digits.yaml audit.num_images=100

    Example: dfshield audit --model python:pkg.mod:factory --weights W.pth --data cifar10:PATH
    """
    from dfshield.cli.auditing import audit_command

    options = _model_options(locals())
    if model is not None:
        overrides, config = _only_overrides(config, overrides), None
    else:
        config = _required(config)
    overrides = trusting(overrides, trust_python)
    if not audit_command(config, overrides, options, as_json=as_json):
        raise typer.Exit(DfshieldError.exit_code)


def _model_options(given: Mapping[str, Any]) -> "ModelOptions":
    """Return those of a command's arguments that say what a model of any origin is."""
    from dfshield.cli.others import ModelOptions

    return ModelOptions(**{name.name: given[name.name] for name in fields(ModelOptions)})


def _only_overrides(config: str | None, overrides: list[str] | None) -> list[str]:
    """Return all arguments as overrides: with --model there is no CONFIG."""
    given = [config, *(overrides or ())] if config is not None else []
    for argument in given:
        if "=" not in argument:
            raise InputError(f"{argument!r}: with --model there is no CONFIG, only KEY=VALUE")
    return given


def _required(config: str | None) -> str:
    if config is None:
        raise InputError("CONFIG: name a YAML file, or a model with --model and --data")
    return config
