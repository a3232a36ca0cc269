"""What lies in a folder of class folders: images, junk that is passed over, and what is neither."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfshield.datasets.images import SPLITS
from dfshield.errors import InputError, counted

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
# What systems and programs leave in folders, beside all that begins with a dot.
_JUNK = frozenset(
    {
        *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
        *("$recycle.bin", "system volume information", "lost+found", "@eadir"),
    }
)
_SPLIT_LIKE = frozenset(
    {*SPLITS, "training", "trainset", "valid", "validation", "dev", "testing", "testset", "eval"}
)
_NAMED = 3
"""How many files a remark lists."""


@dataclass(frozen=True)
class ClassFiles:
    """What lies in the folder of a class, at any depth.

    Attributes:
        folder: the class's.
        images: the folder's own, by name, then those of its sub-folders, one after the other.
        others: files that are no images by their extension, and no junk.
    """

    folder: Path
    images: tuple[Path, ...]
    others: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> "ClassFiles":
        """Look into a folder; one that does not exist is empty."""
        files = list(_files_below(folder))
        images = tuple(file for file in files if _is_image(file))
        return cls(folder, images, tuple(file for file in files if not _is_image(file)))

    @property
    def deeper(self) -> set[Path]:
        """The sub-folders, of the first level, that hold all the images; none if it holds any."""
        depth = len(self.folder.parts)
        if any(file.parent == self.folder for file in self.images):
            return set()
        return {Path(*file.parts[: depth + 1]) for file in self.images}


def class_folders(roots: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of the class folders of all splits, letter by letter.

    All splits count, so that a class missing from one does not renumber the others.
    """
    names = {folder.name for root in roots for folder in root.iterdir() if folder.is_dir()}
    return tuple(sorted(one for one in names if not _is_junk(one)))


def require_classes(root: Path, classes: Mapping[str, ClassFiles]) -> None:
    """Check that there are images, and that the folders which hold them can be classes.

    Raises:
        InputError: if not, with what was taken for classes.
    """
    found = list(classes.values())
    if not any(one.images for one in found):
        others = _some([file for one in found for file in one.others], root)
        raise InputError(
            f"path: {root} has no images in class folders{f', only {others}' if others else ''}: "
            "wanted CLASS/*.png (or jpg, bmp, tif)"
        )
    splits = all(name.lower() in _SPLIT_LIKE for name in classes)
    if all(one.deeper or not one.images for one in found) and (
        splits or (len(found) == 1 and len(found[0].deeper) > 1)
    ):
        raise InputError(
            f"path: {root} holds {', '.join(classes)}, whose sub-folders look like the classes: "
            "name splits train, val and test, or give the path of the folder that holds the classes"
        )


def remarks(
    path: Path, root: Path, splits: Sequence[str], classes: Mapping[str, ClassFiles]
) -> Iterator[str]:
    """Say what lies there beside images in class folders, a sentence each.

    Args:
        path: the folder that the user gave.
        root: the folder of the split that is read.
        splits: the splits in ``path``; none when it is one set of images.
        classes: what lies in each class folder of ``root``.
    """
    others = [file for one in classes.values() for file in one.others]
    if others:
        yield (
            f"{counted(len(others), 'file')} in {root} left out, no image by the extension: "
            f"{_some(others, root)}"
        )
    loose = [file for file in sorted(root.iterdir()) if _is_image(file) and file.is_file()]
    if loose:
        yield (
            f"{counted(len(loose), 'image')} in {root} left out, in no class folder: "
            f"{_some(loose, root)}"
        )
    beside = [one for one in sorted(path.iterdir()) if splits and one.is_dir()]
    unread = [one for one in beside if one.name not in splits and not _is_junk(one.name)]
    if unread:
        yield f"{_some(unread, path)} in {path} not read: splits are train, val and test"
    roots = [path / one for one in splits] or [path]
    empty = [
        name
        for name, one in classes.items()
        if not one.images and not any(ClassFiles.of(place / name).images for place in roots)
    ]
    if empty:
        yield f"no image of class {', '.join(empty)} in {path}: delete its folder if it is no class"


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_raise_but_missing):
        here = Path(place)
        above = {here.resolve(), *here.resolve().parents}  # a link to one of them has no end
        folders[:] = sorted(
            one for one in folders if not _is_junk(one) and (here / one).resolve() not in above
        )
        yield from (here / one for one in sorted(files) if not _is_junk(one))


def _raise_but_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and not _is_junk(file.name)


def _some(files: Sequence[Path], root: Path) -> str:
    names = ", ".join(str(file.relative_to(root)) for file in files[:_NAMED])
    return f"{names} ..." if len(files) > _NAMED else names
