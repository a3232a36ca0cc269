"""The commands of the stages, made from their specifications."""

from collections.abc import Callable
from inspect import signature

from dfshield.cli.execution import execute, trusting
from dfshield.cli.options import AsJson, ConfigArgument, Overrides, PlanOnly, Replan, TrustPython
from dfshield.runs.stages.stage import Stage

_OPTIONAL = ("as_json", "replan", "plan")


def stage_command(stage: Stage) -> Callable[..., None]:
    """Return the command of a stage, with the options that its specification names."""

    def command(
        config: ConfigArgument,
        overrides: Overrides = None,
        as_json: AsJson = False,
        replan: Replan = False,
        plan: PlanOnly = False,
        trust_python: TrustPython = False,
    ) -> None:
        overrides = trusting(overrides, trust_python)
        if plan:
            from dfshield.cli.planning import print_plan

            print_plan(config, overrides, stage.name, as_json=as_json)
            return
        execute(config, overrides, (stage.name,), as_json=as_json, replan=replan)

    whole = signature(command)
    taken = [
        parameter
        for name, parameter in whole.parameters.items()
        if name not in _OPTIONAL or name in stage.options
    ]
    command.__dict__["__signature__"] = whole.replace(parameters=taken)
    return command
