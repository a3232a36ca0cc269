"""For NumPy: one ``.npz`` archive, with the keys that data sets of real images have.

``train_images`` (n, h, w, c), ``train_labels`` (n,), ``train_teacher_logits`` (n, k), the same of
``holdout``, and ``class_names``. Images are written part by part, so that memory holds one part,
labels and logits.
"""

import zipfile
from pathlib import Path

import numpy as np

from dfshield.runs.export.source import ImageSource


def write_npz(source: ImageSource, path: Path) -> None:
    """Write the images of a data set as an archive; equal sets give equal bytes.

    Raises:
        PartError: for a part that is missing or broken.
        OSError: if the file cannot be written.
    """
    channels, height, width = source.manifest.image_shape
    dtype = np.dtype(source.manifest.image_dtype)
    with zipfile.ZipFile(path, "w") as archive:
        for split, parts in source.splits.items():
            labels, logits = [], []
            with archive.open(_entry(f"{split}_images"), "w", force_zip64=True) as entry:
                shape = (sum(part.num_images for part in parts), height, width, channels)
                head = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(entry, head)
                for arrays in source.arrays(split):
                    entry.write(arrays.images.transpose(0, 2, 3, 1).tobytes())
                    labels.append(arrays.labels)
                    logits.append(arrays.teacher_logits)
            _write(archive, f"{split}_labels", np.concatenate(labels))
            _write(archive, f"{split}_teacher_logits", np.concatenate(logits))
        _write(archive, "class_names", np.array(source.manifest.class_names))


def _write(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    with archive.open(_entry(name), "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, values, allow_pickle=False)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy")  # has a fixed date; a name alone is given that of today
