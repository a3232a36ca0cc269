"""The model card that lies beside a student: README.md with a YAML head, as model hubs read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dfshield.report.outcome import SeedOutcome, training_of
from dfshield.report.scores import (
    FLAG_MEANING,
    Comparison,
    Measured,
    compare,
    model_names,
    read_scores,
    said_of_data,
)
from dfshield.report.templating import environment
from dfshield.report.views import Teacher, Threat, checked
from dfshield.results import NOT_DATA_FREE
from dfshield.unmeasured import UNMEASURED


def render_model_card(
    *,
    name: str,
    created: str,
    teacher: Mapping[str, Any],
    threat: Mapping[str, Any],
    config_yaml: str,
    versions: Mapping[str, str],
    outcome: SeedOutcome,
) -> str:
    """Return the card of one student as Markdown.

    Args:
        name: of the run.
        created: when, in ISO 8601.
        teacher: the fields of :class:`dfshield.report.views.Teacher`.
        threat: the fields of :class:`dfshield.report.views.Threat`.
        config_yaml: the resolved configuration.
        versions: package name to version.
        outcome: of the seed that made this student; without evaluations the card says that no
            real image was measured, and what is known all the same.

    Raises:
        InputError: a field is missing or out of range.
    """
    scores = read_scores(outcome.evaluations)
    comparisons = compare(scores)
    raised = {flag for c in comparisons for score in c.scores for flag in score.flags}
    synthesis, reference = outcome.images()
    return (
        environment()
        .get_template("model_card.md.j2")
        .render(
            front_matter=_front_matter(name, comparisons, data_free=outcome.data_free),
            name=name,
            seed=outcome.seed,
            created=created,
            teacher=checked(Teacher, teacher, "teacher"),
            threat=checked(Threat, threat, "threat"),
            synthesis=synthesis,
            reference=reference,
            baseline=outcome.method(),
            said_of_reference=NOT_DATA_FREE,
            training=training_of(outcome),
            said_if_unmeasured=UNMEASURED,
            config_yaml=config_yaml,
            versions=versions,
            comparisons=comparisons,
            models=model_names(scores),
            unseen=bool(scores) and all(s.data.trained_on == 0 for s in scores),
            unknown=any(s.data.trained_on is None for s in scores),
            remarks=said_of_data(scores),
            flag_meaning={flag: text for flag, text in FLAG_MEANING.items() if flag in raised},
        )
    )


def _front_matter(name: str, comparisons: Sequence[Comparison], *, data_free: bool) -> str:
    """Return the YAML head. It names no licence: the student's follows from the teacher's."""
    head: dict[str, Any] = {
        "library_name": "dfshield",
        "pipeline_tag": "image-classification",
        "tags": [
            "image-classification",
            "adversarial-robustness",
            *(["data-free"] if data_free else []),
            "knowledge-distillation",
            "pytorch",
            "safetensors",
        ],
        "data_free": data_free,
    }
    results = [_result(c, c.student) for c in comparisons if c.student]
    if results:
        head["metrics"] = ["accuracy"]
        head["model-index"] = [{"name": " ".join(name.split()), "results": results}]
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100))


def _result(comparison: Comparison, student: Measured) -> dict[str, Any]:
    score = student.scores[0]
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": score.data.name, "type": score.data.name, "split": score.data.split},
        "metrics": [
            {
                "type": "accuracy",
                "name": "Accuracy"
                if not comparison.is_attack
                else f"Accuracy under {comparison.title}",
                "value": round(student.accuracy, 4),
            }
        ],
    }
