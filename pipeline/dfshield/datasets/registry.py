"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

from dfshield.checks import one_of
from dfshield.datasets.cifar import load_cifar
from dfshield.datasets.digits import load_digits
from dfshield.datasets.folder import load_folder
from dfshield.datasets.images import SPLITS, ImageSet
from dfshield.datasets.medmnist import MEDMNIST, load_medmnist
from dfshield.datasets.npz import load_npz
from dfshield.datasets.ranges import checked_range
from dfshield.datasets.svhn import load_svhn
from dfshield.errors import InputError

Loader = Callable[[str, str, Path | None], ImageSet]
"""Takes the name of the data set, the split and the path that the user gave."""

DATASETS: dict[str, Loader] = {
    "digits": load_digits,
    **dict.fromkeys(MEDMNIST, load_medmnist),
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "svhn": load_svhn,
    "npz": load_npz,
    "folder": load_folder,
}


OWN_NAMES = ("npz", "folder")
"""Data sets whose classes the user names; those of all others have one published order."""


def load_images(name: str, *, split: str = "test", path: str | Path | None = None) -> ImageSet:
    """Load real images: for evaluation, for training a teacher, for upper bounds.

    Nothing is downloaded: ``path`` names what lies on this machine.

    Where a source has training images but no validation split (CIFAR, SVHN, some archives and
    folders), ``val`` is a tenth of them, drawn stratified by class with a fixed seed, and ``train``
    is the other nine tenths. Of a source without any splits (an archive of ``images`` and
    ``labels``, a folder of class folders) ``test`` gives every image, and ``train`` and ``val`` the
    same nine tenths and one tenth: an evaluation says how many of its images the teacher was
    trained on.

    Classes are numbered as the source does; a folder's follow from the names of its sub-folders, in
    alphabetical order, with numbers in them by value. Evaluation and training match them with a
    classifier's by name.

    Args:
        name: a key of :data:`DATASETS`.
        split: ``train``, ``val`` or ``test``.
        path: the data set's file or folder; ``~`` is understood. ``digits`` takes none.

    Raises:
        InputError: an unknown name or split, or data that are missing, damaged or of another kind.
    """
    if name == "chestmnist":
        raise InputError(
            "chestmnist: is multi-label (an image may show several findings), but dfshield hardens "
            "single-label classifiers: choose another MedMNIST set"
        )
    one_of(tuple(DATASETS), name, "data set")
    one_of(SPLITS, split, "split")
    return checked_range(DATASETS[name](name, split, None if path is None else Path(path)))
