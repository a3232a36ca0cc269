"""The cards of surrogate data sets: of the set itself, and of what is exported from it."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfshield.canonical import canonical_json, json_value
from dfshield.report.data_card import Column, render_data_card
from dfshield.runs.export.columns import described_columns
from dfshield.runs.export.source import SPLIT_NAMES
from dfshield.runs.identity import stripped
from dfshield.storage import Folder, Manifest, MissingFileError, Split

CARD = "README.md"

_PATTERNS: dict[Split, str] = {
    "data": "data/shard=*/part-*.parquet",
    "holdout": "holdout/part-*.parquet",
}
_EXAMPLE = """
import numpy as np
from datasets import load_dataset

from dfshield.storage import SurrogateDataset

images = SurrogateDataset.open("path/to/this/folder").load("data").images  # (n, {shape})

data = load_dataset("path/to/this/folder")
image = np.frombuffer(data["train"][0]["image"], "{dtype}").reshape({shape})
"""


def card(
    manifest: Manifest,
    *,
    columns: Sequence[Column],
    splits: Mapping[str, str],
    example: str,
    for_datasets: bool,
) -> str:
    """Return a card; see `render_data_card` for the arguments.

    It tells nothing of the number of images, so that it stays as a set grows.
    """
    return render_data_card(
        columns=columns,
        splits=splits,
        example=example,
        class_names=manifest.class_names,
        teacher_fingerprint=manifest.teacher_fingerprint,
        made=_made(manifest),
        for_datasets=for_datasets,
    )


def _made(manifest: Manifest) -> dict[str, Any]:
    """Return what the images depend on beside the classifier; sets of any age tell it alike.

    Keys are sorted, since a manifest that was read has them so.
    """
    depends_on = stripped(manifest.identity)
    told: dict[str, Any] = json_value(
        canonical_json(
            {k: v for k, v in depends_on.items() if v != {} and k != "teacher_fingerprint"}
        ).encode()
    )
    return told


def keep_card(folder: Folder, manifest: Manifest) -> None:
    """Write the card of a data set into its folder; one that somebody has edited stays.

    Raises:
        InputError: if the folder cannot be written.
    """
    splits: list[Split] = [split for split in SPLIT_NAMES if manifest.split(split)]
    text = _own_card(manifest, splits)
    try:
        found = folder.read_bytes(CARD)
    except MissingFileError:
        found = b""
    # One from before the set had a hold-out does not name it.
    if found in (b"", _own_card(manifest, ["data"]).encode()) and found != text.encode():
        folder.write_bytes(CARD, text.encode())


def _own_card(manifest: Manifest, splits: Sequence[Split]) -> str:
    shape = ", ".join(map(str, manifest.image_shape))
    dtype = {"float32": "<f4", "float16": "<f2", "uint8": "|u1"}[manifest.image_dtype]
    of_range = "[0, 255]" if manifest.image_dtype == "uint8" else "[0, 1]"
    columns = described_columns(
        manifest,
        kind="binary",
        meaning=f"the pixels in C order, {manifest.image_dtype} ({shape}) in {of_range}, "
        "channels first, little-endian",
        feature={"dtype": "binary"},
    )
    return card(
        manifest,
        columns=columns,
        splits={SPLIT_NAMES[split]: _PATTERNS[split] for split in splits},
        example=_EXAMPLE.format(dtype=dtype, shape=shape).strip(),
        for_datasets=True,
    )
