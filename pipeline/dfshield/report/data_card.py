"""The card of a set of surrogate images: README.md with a YAML head, as Hugging Face reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dfshield.report.templating import environment


@dataclass(frozen=True)
class Column:
    """A column of the table of images.

    Attributes:
        name: of the column.
        kind: its type, in words.
        meaning: what it holds.
        feature: its type as ``dataset_info`` of Hugging Face ``datasets`` writes it.
    """

    name: str
    kind: str
    meaning: str
    feature: Mapping[str, Any]


def render_data_card(
    *,
    columns: Sequence[Column],
    splits: Mapping[str, str],
    example: str,
    class_names: Sequence[str],
    teacher_fingerprint: str,
    made: Mapping[str, Any],
    for_datasets: bool,
) -> str:
    """Return the card as Markdown; equal arguments give equal text.

    Args:
        columns: of the table, in their order.
        splits: the files of each split, as a pattern below the card's folder.
        example: Python code that opens the files.
        class_names: one per class, in the order of the labels.
        teacher_fingerprint: SHA-256 of the classifier that the images come from.
        made: all that the images depend on.
        for_datasets: whether the head tells ``datasets.load_dataset`` of splits and columns.
    """
    return (
        environment()
        .get_template("data_card.md.j2")
        .render(
            front_matter=_front_matter(columns, splits if for_datasets else {}),
            columns=columns,
            splits=splits,
            example=example,
            class_names=class_names,
            teacher_fingerprint=teacher_fingerprint,
            made_yaml=_yaml(made),
        )
    )


def _front_matter(columns: Sequence[Column], splits: Mapping[str, str]) -> str:
    """Return the YAML head. It names no licence: that of the images follows from the teacher's."""
    head: dict[str, Any] = {
        "task_categories": ["image-classification"],
        "tags": ["dfshield", "synthetic", "data-free", "model-inversion", "adversarial-robustness"],
    }
    if splits:
        files = [{"split": split, "path": pattern} for split, pattern in splits.items()]
        head["configs"] = [{"config_name": "default", "data_files": files}]
        features = [{"name": column.name, **column.feature} for column in columns]
        head["dataset_info"] = {"config_name": "default", "features": features}
    return _yaml(head)


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100))
