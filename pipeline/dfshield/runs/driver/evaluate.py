"""Measuring teacher and student on real images, clean and under every attack."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dfshield.canonical import identity_hash
from dfshield.classifiers import WEIGHTS_FILE
from dfshield.evaluation import (
    DataInfo,
    EvaluationResult,
    is_robustbench,
    robustbench_entry,
    summarise_worst_case,
    worst_case,
)
from dfshield.results import WORST_CASE
from dfshield.runs.context import RunContext
from dfshield.runs.driver.corruptions import measure_corruptions
from dfshield.runs.driver.teacher import finished_teacher
from dfshield.runs.driver.train import student_is_done, trained_student
from dfshield.runs.inputs.attack_plans import AttackPlan, attack_plans
from dfshield.runs.inputs.defences import defences_of
from dfshield.runs.inputs.evaluation_images import RealImages, real_images
from dfshield.runs.inputs.reference_images import require_unseen
from dfshield.runs.inputs.training_overlap import disclosed
from dfshield.runs.names import INDEX
from dfshield.runs.work.measuring import Subject, measured
from dfshield.runs.work.result_files import read_records, read_result, write_result
from dfshield.storage import Folder

ROBUSTBENCH = "robustbench"


def measure_models(
    context: RunContext, seed: int, subjects: Sequence[Subject] = ()
) -> list[EvaluationResult]:
    """Measure models under every attack; what has been measured is not repeated.

    A model that answers the same clean images differently when asked twice meets AutoAttack in its
    version ``rand``, unless the configuration names another.

    Args:
        context: of the run.
        seed: of the evaluation.
        subjects: the models; by default those of the configuration, teacher and student. Behind
            its defences stand these, or the teacher.

    Returns:
        One result per model and attack, clean first; then, for every threat model with several
        attacks, what they come to together.
    """
    models = list(subjects) or [
        subject_of(context, name, seed) for name in context.config.evaluation.models
    ]
    if context.config.evaluation.defences:
        alone = subjects or [subject_of(context, "teacher", seed)]
        models += [m.behind(d) for m in alone for d in defences_of(context.config, m.classifier)]
    images = real_images(
        context.config, models[0].architecture, num_images=context.config.evaluation.num_images
    )
    require_unseen(context.config, images.images)
    images = disclosed(context.config, images, context.observer)
    by_model = _all_attacks(context, seed, models, images)
    folder = context.layout.evaluation(seed)
    for model, results in zip(models, by_model.values(), strict=True):
        _write_robustbench(context, folder, model, results)
    # Attack by attack, the models of each side by side.
    listed = [
        pair for row in zip(*(r.items() for r in by_model.values()), strict=True) for pair in row
    ]
    for results in by_model.values():
        listed += _worst_cases(folder, results)
    listed = [(name, _telling(folder, name, result, images.info)) for name, result in listed]
    index = "".join(f"{name}\n" for name, _ in listed).encode()
    if not folder.exists(INDEX) or folder.read_bytes(INDEX) != index:
        folder.write_bytes(INDEX, index)
    measure_corruptions(context, seed, models, images)
    return [result for _, result in listed]


def subject_of(context: RunContext, name: str, seed: int) -> Subject:
    """Return the run's ``teacher`` or ``student`` as a model to measure, the other its surrogate.

    Raises:
        InputError: if there is none yet.
    """
    teacher = context.layout.teacher
    if name == "student":
        return Subject(name, trained_student(context, seed), surrogate=teacher)
    finished_teacher(context)
    student = context.layout.student(seed) if student_is_done(context, seed) else None
    return Subject(name, teacher, surrogate=student)


def _all_attacks(
    context: RunContext, seed: int, models: Sequence[Subject], images: RealImages
) -> dict[str, dict[str, EvaluationResult]]:
    """Measure models clean and under every attack; return by model the results by name."""
    clean = measured(context, seed, [(model, None) for model in models], images)
    rows = [clean]
    plans = [
        planned_attacks(context, model, randomised=bool(alone.randomised))
        for model, (_, alone) in zip(models, clean, strict=True)
    ]
    for of_attack in zip(*plans, strict=True):
        row = list(zip(models, of_attack, strict=True))
        rows.append(measured(context, seed, row, images))
    columns = zip(*rows, strict=True)
    return {model.name: dict(results) for model, results in zip(models, columns, strict=True)}


def planned_attacks(
    context: RunContext, model: Subject, *, randomised: bool = False
) -> list[AttackPlan]:
    """Return the attacks of the configuration as a model meets them.

    Args:
        context: of the run.
        model: under attack; one behind a defence that draws is attacked over its draws.
        randomised: whether the model was found to draw random numbers.
    """
    plans = [_with_model(context, model, plan) for plan in attack_plans(context.config)]
    draws = model.defence is not None and model.defence.randomised
    return [p.averaging(every=draws) for p in plans] if draws or randomised else plans


def _with_model(context: RunContext, model: Subject, plan: AttackPlan) -> AttackPlan:
    """Return the plan with the model that it needs, unless its configuration names one."""
    if plan.needs is None or plan.other is not None:
        return plan
    of_run = plan.needs == "teacher" and context.layout.teacher.exists(WEIGHTS_FILE)
    other = context.layout.teacher if of_run else model.surrogate
    return replace(plan, other=None if other is None else other.uri)


def _worst_cases(
    folder: Folder, results: Mapping[str, EvaluationResult]
) -> list[tuple[str, EvaluationResult]]:
    """Write what the attacks of one threat model on one model come to together.

    Several of them, or none: a threat model with a single attack has no worst case.

    Returns:
        The results with their names.
    """
    groups: dict[tuple[object, object], dict[str, EvaluationResult]] = {}
    for name, result in results.items():
        if result.attack is not None:
            groups.setdefault((result.norm, result.eps), {})[name] = result
    return [_worst_case(folder, group) for group in groups.values() if len(group) > 1]


def _worst_case(
    folder: Folder, group: Mapping[str, EvaluationResult]
) -> tuple[str, EvaluationResult]:
    first, *_ = group.values()
    name = f"{first.model}-{WORST_CASE}-{identity_hash({'of': list(group)})[:8]}"
    if folder.exists(f"{name}.json"):
        return name, read_result(folder, name)
    records = worst_case([read_records(folder, of) for of in group])
    result = summarise_worst_case(list(group.values()), records)
    write_result(folder, name, result, records)
    return name, result


def _telling(
    folder: Folder, name: str, result: EvaluationResult, info: DataInfo
) -> EvaluationResult:
    """Return a result that says of its images what has to be said; an earlier one may not have."""
    if not info.remarks or result.data == info or result.data.trained_on is not None:
        return result
    result = result.model_copy(update={"data": info})
    folder.write_bytes(f"{name}.json", f"{result.to_json()}\n".encode())
    return result


def _write_robustbench(
    context: RunContext, folder: Folder, model: Subject, results: Mapping[str, EvaluationResult]
) -> None:
    """Write ``robustbench/NAME.json`` for what AutoAttack (standard) gave."""
    given = context.config.evaluation.robustbench.model_dump()
    own = dict.fromkeys((context.config.name, model.name))  # a model without a run has one name
    known = {
        "name": given["name"] or " ".join(own),
        "architecture": given["architecture"] or model.architecture.source,
    }
    clean, *_ = results.values()
    for name, result in results.items():
        if is_robustbench(result):
            path = f"{ROBUSTBENCH}/{name}.json"
            entry = robustbench_entry(clean, result, **{**given, **known})
            if not folder.exists(path) or folder.read_json(path) != entry:
                folder.write_json(path, entry)


def read_results(context: RunContext, seed: int) -> list[EvaluationResult]:
    """Return the results of the last evaluation of a seed, none before one; needs no real image.

    Raises:
        InputError: if a result is damaged.
    """
    folder = context.layout.evaluation(seed)
    if not folder.exists(INDEX):
        return []
    names = folder.read_bytes(INDEX).decode(errors="replace").split()
    return [read_result(folder, name) for name in names]


def result_summaries(folder: Folder) -> list[dict[str, Any]]:
    """Return what the status tells of every result in the folder of an evaluation.

    Raises:
        InputError: if a result is damaged.
    """
    names = (name.removesuffix(".json") for name in folder.list() if name.endswith(".json"))
    results = (read_result(folder, name) for name in names if "/" not in name)
    return [r.model_dump(include={"model", "label", "accuracy", "num_images"}) for r in results]
