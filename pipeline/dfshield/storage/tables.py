"""One part of the surrogate data set as an Arrow table, in memory or about to become a file.

Columns, one row per image: ``image`` (fixed-size binary: the pixels in C order, c x h x w, in the
stored dtype, little-endian), ``label``, ``teacher_logits`` (fixed-size list of float), ``batch``,
``seed``, and the synthesizer's own, which the manifest names; see `columns` for their order. The
schema metadata tells any reader how to rebuild and check the arrays (every key begins with
``dfshield.``):

- ``format_version``: version of this layout.
- ``image_shape``, ``image_dtype``: JSON list [c, h, w]; float32, float16 or uint8.
- ``sha256``: ``PartArrays.checksum()`` of the decoded columns.
- ``identity``, ``split``, ``shard``, ``part``: which data set it belongs to (a hash), and where.
- ``engine``: what made it (JSON).
- ``class_names``: JSON list.
- ``generator``: fingerprint of the generator that the images were sampled from, if any.
"""

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa

from dfshield.canonical import canonical_json, identity_hash
from dfshield.errors import DfshieldError, InputError, one_line
from dfshield.storage.arrays import PartArrays
from dfshield.storage.columns import column_order
from dfshield.storage.manifest import Manifest, Part

_PREFIX = "dfshield."
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError)
"""What pyarrow raises for a damaged Parquet file, depending on where the damage is."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class PartError(DfshieldError):
    """A part of the surrogate data set is missing or does not verify.

    Attributes:
        part: which part.
        reason: what is wrong with it.
        folder: the data set's folder, as shown to the user; None for a table in memory.
    """

    def __init__(self, part: Part, reason: str, folder: str | None = None) -> None:
        super().__init__(part, reason, folder)  # all of it, so that it can be pickled
        self.part = part
        self.reason = reason
        self.folder = folder

    def __str__(self) -> str:
        path = self.part.path
        if self.folder is None:
            return f"{path} in memory: {self.reason}: run the synthesis again to mend it"
        return (
            f"{self.folder}/{path}: {self.reason}: `dfshield verify RUN --repair`, with the run "
            "folder that it lies in, makes it again"
        )


def part_table(manifest: Manifest, part: Part, arrays: PartArrays) -> pa.Table:
    """Return the arrays of a part as a table that carries its checksum and where it belongs.

    The table shares memory with the arrays where it can: they must not be changed while it lives.

    Raises:
        InputError: if the arrays are not those of this part.
    """
    misfit = _misfit(manifest, part, arrays)
    if misfit is not None:
        raise InputError(f"{part.path}: the arrays do not belong to this part: {misfit}")
    pixels = np.ascontiguousarray(arrays.images.astype(little_endian(manifest), copy=False))
    schema = _schema(manifest)
    columns = {
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(image_bytes(manifest)), len(arrays), [None, pa.py_buffer(pixels)]
        ),
        "label": pa.array(arrays.labels),
        "teacher_logits": pa.FixedSizeListArray.from_arrays(
            pa.array(arrays.teacher_logits.ravel()), type=schema.field("teacher_logits").type
        ),
        "batch": pa.array(arrays.batch),
        "seed": pa.array(arrays.seed),
        **{name: pa.array(values) for name, values in arrays.columns.items()},
    }
    metadata = {
        "format_version": str(manifest.format_version),
        "image_dtype": manifest.image_dtype,
        "sha256": arrays.checksum(),
        "engine": canonical_json(manifest.engine),
        **_place(manifest, part),
    }
    schema = schema.with_metadata({_PREFIX + k: v for k, v in metadata.items()})
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def part_arrays(table: pa.Table, manifest: Manifest, part: Part) -> PartArrays:
    """Return the arrays of a part's table, checked against its checksum and the manifest.

    They share memory with the table where they can, and are read-only then.

    Raises:
        PartError: with the reason, if the table is damaged or belongs elsewhere.
    """
    problem = foreign(table.schema, manifest, part)
    if problem is not None:
        raise PartError(part, problem)
    try:
        arrays = _decode(table, manifest)
    except (InputError, pa.ArrowException) as error:
        raise PartError(part, damaged(error)) from None
    if arrays.checksum() != table_checksum(table):
        raise PartError(part, "its content does not match its checksum")
    problem = _misfit(manifest, part, arrays)
    if problem is not None:
        raise PartError(part, problem)
    return arrays


def table_checksum(table: pa.Table) -> str:
    """Return the checksum that a part's table carries, which `part_arrays` checks."""
    return recorded_checksum(table.schema)


def recorded_checksum(schema: pa.Schema) -> str:
    """Return the checksum in the metadata of a part that is not foreign."""
    return _metadata(schema)["sha256"]


def _decode(table: pa.Table, manifest: Manifest) -> PartArrays:
    table.validate()  # else buffers that are too short would be read beyond their end
    if any(column.null_count for column in table.columns):
        raise InputError("missing values")
    table = table.combine_chunks()
    pixels = _only_chunk(table, "image")
    width = image_bytes(manifest)
    images = np.frombuffer(
        pixels.buffers()[1], np.uint8, count=len(pixels) * width, offset=pixels.offset * width
    )
    logits = _only_chunk(table, "teacher_logits").flatten().to_numpy()
    return PartArrays(
        images=images.view(little_endian(manifest))
        .reshape(-1, *manifest.image_shape)
        .astype(manifest.image_dtype, copy=False),
        labels=table["label"].to_numpy(),
        teacher_logits=logits.reshape(-1, manifest.num_classes),
        batch=table["batch"].to_numpy(),
        seed=table["seed"].to_numpy(),
        columns={name: table[name].to_numpy() for name in manifest.columns},
    )


def damaged(error: Exception) -> str:
    """Say in one line that a part cannot be read."""
    return f"truncated or damaged ({one_line(error)})"


def _only_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _schema(manifest: Manifest) -> pa.Schema:
    logits = pa.list_(pa.field("element", pa.float32(), nullable=False), manifest.num_classes)
    types = {
        "image": pa.binary(image_bytes(manifest)),
        "label": pa.int64(),
        "teacher_logits": logits,
        "batch": pa.int64(),
        "seed": pa.int64(),
        **{name: pa.from_numpy_dtype(dtype) for name, dtype in manifest.columns.items()},
    }
    names = column_order(manifest.columns)
    return pa.schema([pa.field(name, types[name], nullable=False) for name in names])


def image_bytes(manifest: Manifest) -> int:
    """Return how many bytes an image takes as it is stored."""
    channels, height, width = manifest.image_shape
    return channels * height * width * little_endian(manifest).itemsize


def little_endian(manifest: Manifest) -> "np.dtype[np.generic]":
    """Return the dtype of the pixels as they are stored."""
    return np.dtype(manifest.image_dtype).newbyteorder("<")


def _place(manifest: Manifest, part: Part) -> dict[str, str]:
    """The metadata that tells where a part belongs."""
    place = {
        "identity": identity_hash(manifest.identity),
        "split": part.split,
        "shard": str(part.shard),
        "part": str(part.index),
        "image_shape": json.dumps(manifest.image_shape),
        "class_names": json.dumps(manifest.class_names, ensure_ascii=False),
    }
    return place if manifest.generator is None else {**place, "generator": manifest.generator}


def recorded_engine(schema: pa.Schema) -> dict[str, Any]:
    """Return the engine that a part's table carries, which `part_table` has put there."""
    engine: dict[str, Any] = json.loads(_metadata(schema)["engine"])
    return engine


def _metadata(schema: pa.Schema) -> dict[str, str]:
    found = schema.metadata or {}
    text = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in found.items()}
    return {k.removeprefix(_PREFIX): v for k, v in text.items() if k.startswith(_PREFIX)}


def foreign(schema: pa.Schema, manifest: Manifest, part: Part) -> str | None:
    """Say what about the metadata and column types is not that of this part."""
    found = _metadata(schema)
    version = found.get("format_version", "none")
    if version != str(manifest.format_version):
        return f"its format version is {version}, not {manifest.format_version}"
    if found.get("image_dtype") != manifest.image_dtype:
        return f"its image dtype is {found.get('image_dtype')}, not {manifest.image_dtype}"
    for key, value in _place(manifest, part).items():
        if found.get(key) != value:
            return f"it belongs elsewhere: its {key} is {found.get(key)}, not {value}"
    if not schema.equals(_schema(manifest)):
        return "its columns are not those of a part"
    if not _SHA256.fullmatch(found.get("sha256", "")):
        return "it carries no checksum"
    return None


def _misfit(manifest: Manifest, part: Part, arrays: PartArrays) -> str | None:
    """Say what about the arrays does not fit the place of the part in the plan."""
    if len(arrays) != part.num_images:
        return f"it has {len(arrays)} images, not {part.num_images}"
    if arrays.images.dtype != np.dtype(manifest.image_dtype):
        return f"its images are {arrays.images.dtype}, not {manifest.image_dtype}"
    if arrays.images.shape[1:] != manifest.image_shape:
        return f"its images are {arrays.images.shape[1:]}, not {manifest.image_shape}"
    if {name: values.dtype.name for name, values in arrays.columns.items()} != manifest.columns:
        return f"its own columns are not {', '.join(manifest.columns)}"
    if arrays.teacher_logits.shape[1] != manifest.num_classes:
        return f"it has {arrays.teacher_logits.shape[1]} logits, not {manifest.num_classes}"
    batches = np.repeat(np.array(part.batches), manifest.batch_size)[: part.num_images]
    if not np.array_equal(arrays.batch, batches):
        return f"its batches are not {part.batches.start} to {part.batches.stop - 1}"
    if not (arrays.seed == manifest.seed).all():
        return f"its seed is not {manifest.seed}"
    return None
