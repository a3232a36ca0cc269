"""A folder of image files, one sub-folder per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from dfshield.datasets.files import reading, refuse_split, required
from dfshield.datasets.folder_files import ClassFiles, class_folders, remarks, require_classes
from dfshield.datasets.images import SPLITS, ImageSet, stored_split, without_stored_validation
from dfshield.datasets.names import in_natural_order
from dfshield.errors import InputError

_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
_WORDS = {"L": "grey", "RGB": "colour"}


def load_folder(name: str, split: str, path: Path | None) -> ImageSet:
    """Return the images of ``path/SPLIT/CLASS/*.png``, or of ``path/CLASS/*.png``.

    A validation split that is not there is made as `load_images` says. Classes are the sub-folders
    of all splits in alphabetical order, numbers in their names by value; images follow by name of
    folder, then file, letter by letter. Images in sub-folders of a class folder are of that class,
    as in torchvision's ImageFolder. Hidden files, ``__MACOSX``, ``Thumbs.db`` and the like are
    passed over; what else is left out stands in the remarks.

    Raises:
        InputError: nothing there, an unreadable image, images of several sizes, or grey and colour
            ones mixed, or one with transparency, several frames or more than 8 bits.
    """
    path = required(
        path,
        name=name,
        wanted="a folder with one sub-folder of images per class",
        source="CLASS/*.png or test/CLASS/*.png",
    )
    if not path.is_dir():
        raise InputError(f"path: {path} is a file: wanted a folder with one sub-folder per class")
    present = tuple(one for one in SPLITS if (path / one).is_dir())
    if present:
        refuse_split(str(path), stored_split(split, present), present)
    root = path / stored_split(split, present)
    with reading(path, "a folder of images"):
        class_names = class_folders([path / one for one in present] or [path])
        classes = {class_name: ClassFiles.of(root / class_name) for class_name in class_names}
        require_classes(root, classes)
        said = tuple(remarks(path, root, present, classes))
    labels = np.repeat(np.arange(len(classes)), [len(one.images) for one in classes.values()])
    pixels = _read_all([file for one in classes.values() for file in one.images])
    images = ImageSet(pixels, labels, class_names, name, split, origin=str(root), remarks=said)
    ordered = in_natural_order(class_names)
    numbers = [ordered.index(one) for one in class_names]
    return without_stored_validation(images, present).with_classes(ordered, numbers)


def _read_all(files: list[Path]) -> np.ndarray:
    first, mode = _read(files[0])
    pixels = np.empty((len(files), *first.shape), dtype=np.uint8)
    for row, file in enumerate(files):
        image, its_mode = _read(file)
        if its_mode != mode:
            raise InputError(
                f"{file}: is {_WORDS[its_mode]} but {files[0]} is {_WORDS[mode]}: "
                "wanted one or the other"
            )
        if image.shape != first.shape:
            raise InputError(
                f"{file}: is {image.shape[1]}x{image.shape[0]} but {files[0]} is "
                f"{first.shape[1]}x{first.shape[0]} (width x height): wanted one size"
            )
        pixels[row] = image
    return pixels


def _read(file: Path) -> tuple[np.ndarray, str]:
    with reading(file, "an image", Image.DecompressionBombError), Image.open(file) as image:
        if image.mode not in _MODES or image.has_transparency_data:
            raise InputError(
                f"{file}: has mode {image.mode}, more than 8 bits per channel or transparency: "
                "wanted plain grey or RGB"
            )
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{file}: has several frames: wanted one image per file")
        mode = _MODES[image.mode]
        return np.asarray(image.convert(mode)), mode
