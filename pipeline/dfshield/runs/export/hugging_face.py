"""For Hugging Face ``datasets``: Parquet files and a card, which ``load_dataset(FOLDER)`` opens.

Images of eight bits with one or three channels become PNG files, which the feature ``Image``
decodes to PIL images of the same pixels. All others keep their number type in the feature
``Array3D``: PNG would round them, or does not know their channels.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped
from PIL import Image

from dfshield.runs.export.card import CARD, card
from dfshield.runs.export.columns import described_columns, fixed_lists, parquet_bytes
from dfshield.runs.export.source import ImageSource
from dfshield.storage import Folder, Manifest

_EXAMPLE = """
from datasets import load_dataset

data = load_dataset("path/to/this/folder")
row = data["train"][0]
{picture}
name = data["train"].features["label"].int2str(row["label"])
"""
_PICTURE = 'picture = row["image"]  # a PIL image'
_ARRAYS = """\
images = data["train"].with_format("numpy")[:64]["image"]  # (64, {shape}), in {range}"""


def write_hugging_face(source: ImageSource, folder: Folder) -> None:
    """Write the images of a data set into a folder; its card comes last.

    Raises:
        PartError: for a part that is missing or broken.
        InputError: if the folder cannot be written.
    """
    manifest = source.manifest
    for split, parts in source.splits.items():
        for index, arrays in enumerate(source.arrays(split)):
            images = arrays.images
            content = parquet_bytes(
                manifest,
                arrays,
                image=_pictures(images) if are_pictures(manifest) else _nested(images),
                teacher_logits=fixed_lists(arrays.teacher_logits),
            )
            folder.write_bytes(f"data/{split}-{index:05d}-of-{len(parts):05d}.parquet", content)
    folder.write_bytes(CARD, _card(source).encode())


def are_pictures(manifest: Manifest) -> bool:
    """Return whether PNG holds the images as they are."""
    return manifest.image_dtype == "uint8" and manifest.image_shape[0] in (1, 3)


def _pictures(images: Shaped[np.ndarray, "n c h w"]) -> pa.Array:
    files = [{"bytes": _png(image), "path": None} for image in images]
    return pa.array(files, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def _png(image: Shaped[np.ndarray, "c h w"]) -> bytes:
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, -1))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _nested(images: Shaped[np.ndarray, "n c h w"]) -> pa.Array:
    """Return images as lists of lists of lists, as ``datasets`` stores an ``Array3D``."""
    values = pa.array(images.ravel())
    for size in images.shape[:0:-1]:
        starts = pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32))
        values = pa.ListArray.from_arrays(starts, values)
    return values


def _card(source: ImageSource) -> str:
    manifest = source.manifest
    channels, height, width = manifest.image_shape
    shape = f"{channels}, {height}, {width}"
    of_range = "[0, 255]" if manifest.image_dtype == "uint8" else "[0, 1]"
    feature: Mapping[str, Any]
    if are_pictures(manifest):
        kind, feature = "PNG file", {"dtype": "image"}
        meaning = f"the pixels, {width} wide and {height} high, 0 to 255"
        shown = _PICTURE
    else:
        kind = f"{manifest.image_dtype} ({shape})"
        array = {"shape": list(manifest.image_shape), "dtype": manifest.image_dtype}
        feature = {"dtype": {"array3_d": array}}
        meaning = f"the pixels in {of_range}, channels first"
        shown = _ARRAYS.format(shape=shape, range=of_range)
    return card(
        manifest,
        columns=described_columns(manifest, kind=kind, meaning=meaning, feature=feature),
        splits={split: f"data/{split}-*.parquet" for split in source.splits},
        example=_EXAMPLE.format(picture=shown).strip(),
        for_datasets=True,
    )
