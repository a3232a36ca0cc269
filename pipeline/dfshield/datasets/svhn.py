"""SVHN, format 2: 32x32 colour crops of house numbers in MATLAB files."""

from pathlib import Path

import numpy as np

from dfshield.datasets.arrays import as_labels
from dfshield.datasets.files import reading, required
from dfshield.datasets.images import ImageSet, stored_split, without_stored_validation
from dfshield.errors import InputError

_SOURCE = 'from the page "The Street View House Numbers Dataset", ufldl.stanford.edu/housenumbers'

_SPLITS = ("train", "test")


def load_svhn(name: str, split: str, path: Path | None) -> ImageSet:
    """Return a split of SVHN from ``train_32x32.mat`` or ``test_32x32.mat``.

    The files give digit 0 the label 10; here it is class 0.

    Args:
        name: ``svhn``.
        split: ``train``, ``val`` (a tenth of the training file) or ``test``.
        path: the folder of the file, or the file.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    wanted = f"{stored_split(split, _SPLITS)}_32x32.mat"
    path = required(path, name=name, wanted=f"the folder that holds {wanted}", source=_SOURCE)
    file = path / wanted if path.is_dir() else path
    if not file.is_file() or file.name != wanted:
        raise InputError(f"path: {file} is not the file {wanted} ({_SOURCE})")
    images, labels = _read(file)
    if labels.max() > 10 or labels.min() < 1:
        raise InputError(f"{file}: labels run from {labels.min()} to {labels.max()}: wanted 1..10")
    class_names = tuple(str(digit) for digit in range(10))
    loaded = ImageSet(images, labels % 10, class_names, name, split, origin=str(file))
    return without_stored_validation(loaded, _SPLITS)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    # Imported here: no other data set needs it.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # The official files are compressed, so zlib's checksum stands before SciPy's parser, which can
    # crash the process on a damaged variable that was saved uncompressed.
    with reading(file, "a MATLAB 5 file", MatReadError, NotImplementedError):
        content = loadmat(file, variable_names=("X", "y"))
        for key in ("X", "y"):
            if key not in content:
                raise InputError(f'{file}: has no variable "{key}": wanted "X" and "y"')
        images, labels = np.asarray(content["X"]), np.asarray(content["y"])
    if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or images.ndim != 4:
        raise InputError(
            f"{file}: X is {images.dtype} of shape {images.shape}: wanted uint8 (32, 32, 3, n)"
        )
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), as_labels(labels, str(file))
