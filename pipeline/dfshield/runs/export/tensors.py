"""For ray.data: Parquet with tensor columns, which ``ray.data.read_parquet`` gives as arrays.

The columns ``image``, of shape (c, h, w), and ``teacher_logits``, of shape (k,), have Arrow's own
type of fixed-shape tensors. Nothing here needs Ray.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from dfshield.runs.export.card import CARD, card
from dfshield.runs.export.columns import described_columns, fixed_lists, parquet_bytes
from dfshield.runs.export.source import ImageSource
from dfshield.storage import Folder

_EXAMPLE = """
import ray

train = ray.data.read_parquet("path/to/this/folder/train")
for batch in train.iter_torch_batches(batch_size=64):
    images, labels = batch["image"], batch["label"]  # {dtype}, (64, {shape})
    break
"""


def write_tensors(source: ImageSource, folder: Folder) -> None:
    """Write the images of a data set into a folder for each split; the card comes last.

    Raises:
        PartError: for a part that is missing or broken.
        InputError: if the folder cannot be written.
    """
    for split in source.splits:
        for index, arrays in enumerate(source.arrays(split)):
            content = parquet_bytes(
                source.manifest,
                arrays,
                image=_tensors(arrays.images),
                teacher_logits=_tensors(arrays.teacher_logits),
            )
            folder.write_bytes(f"{split}/part-{index:05d}.parquet", content)
    folder.write_bytes(CARD, _card(source).encode())


def _tensors(values: Shaped[np.ndarray, "n *shape"]) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])
    return pa.ExtensionArray.from_storage(kind, fixed_lists(values))


def _card(source: ImageSource) -> str:
    manifest = source.manifest
    shape = ", ".join(map(str, manifest.image_shape))
    of_range = "[0, 255]" if manifest.image_dtype == "uint8" else "[0, 1]"
    columns = described_columns(
        manifest,
        kind=f"{manifest.image_dtype} tensor ({shape})",
        meaning=f"the pixels in {of_range}, channels first",
        feature={},
    )
    return card(
        manifest,
        columns=columns,
        splits={split: f"{split}/part-*.parquet" for split in source.splits},
        example=_EXAMPLE.format(dtype=manifest.image_dtype, shape=shape).strip(),
        for_datasets=False,
    )
