"""The columns of an exported table: how cards describe them, and how they are written."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from dfshield.report.data_card import Column
from dfshield.storage import Manifest, PartArrays
from dfshield.storage.columns import column_order

_MEANINGS = {
    "label": "the class that the image was made for: 0 to one less than there are classes",
    "teacher_logits": "the logits that the classifier gives for this very image, as it is stored",
    "batch": "the batch that it was made in, counted over its split",
    "seed": "of the run",
    "alpha_class": "coefficient of the classification loss",
    "alpha_feature": "coefficient of the loss of BatchNorm statistics",
    "alpha_tv": "coefficient of the total variation",
    "loss_class": "last classification loss of its batch",
    "loss_feature": "last loss of BatchNorm statistics of its batch",
    "loss_tv": "last total variation of its batch",
    "loss_total": "last weighted sum of the three",
}


def described_columns(
    manifest: Manifest, *, kind: str, meaning: str, feature: Mapping[str, Any]
) -> list[Column]:
    """Return what cards tell of the columns.

    Args:
        manifest: of the data set.
        kind: the type of the column ``image``, in words.
        meaning: what it holds.
        feature: its type as Hugging Face ``datasets`` writes it.
    """
    classes = {str(label): name for label, name in enumerate(_distinct(manifest.class_names))}
    numbers = {name: manifest.columns.get(name, "int64") for name in column_order(manifest.columns)}
    described = {
        name: Column(name, dtype, _MEANINGS.get(name, "of the synthesizer"), {"dtype": dtype})
        for name, dtype in numbers.items()
    }
    special = (
        Column("image", kind, meaning, feature),
        Column(
            "label", "int64", _MEANINGS["label"], {"dtype": {"class_label": {"names": classes}}}
        ),
        Column(
            "teacher_logits",
            f"{manifest.num_classes} float32",
            _MEANINGS["teacher_logits"],
            {"sequence": "float32", "length": manifest.num_classes},
        ),
    )
    return list((described | {column.name: column for column in special}).values())


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names as class labels of ``datasets``: on one line, and none of them twice."""
    names = tuple(" ".join(name.split()) for name in names)
    if len(set(names)) == len(names):
        return names
    return tuple(f"{label} {name}" for label, name in enumerate(names))


def fixed_lists(values: Shaped[np.ndarray, "n *shape"]) -> pa.FixedSizeListArray:
    """Return an array as a flat list of numbers per row."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), math.prod(values.shape[1:]))


def parquet_bytes(
    manifest: Manifest, arrays: PartArrays, *, image: pa.Array, teacher_logits: pa.Array
) -> pa.Buffer:
    """Return a part as a Parquet file, its columns in the order of the data set's own files.

    Args:
        manifest: of the data set.
        arrays: of the part.
        image: what stands for the images.
        teacher_logits: what stands for the logits.
    """
    values = {
        "image": image,
        "label": pa.array(arrays.labels),
        "teacher_logits": teacher_logits,
        "batch": pa.array(arrays.batch),
        "seed": pa.array(arrays.seed),
        **{name: pa.array(column) for name, column in arrays.columns.items()},
    }
    table = pa.table({name: values[name] for name in column_order(manifest.columns)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return sink.getvalue()
