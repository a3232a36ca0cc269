"""The images of a data set as an export takes them: part after part, checked, in their order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dfshield.storage import (
    Manifest,
    Part,
    PartArrays,
    Split,
    SurrogateDataset,
    decode_images,
    encode_images,
)

SPLIT_NAMES: dict[Split, str] = {"data": "train", "holdout": "holdout"}
"""What the splits of a data set are called for other libraries."""


@dataclass(frozen=True)
class ImageSource:
    """Images to export.

    Attributes:
        manifest: what they are; its ``image_dtype`` is that of the export.
        read: returns the images of a part, checked.
    """

    manifest: Manifest
    read: Callable[[Part], PartArrays]

    @property
    def splits(self) -> dict[str, tuple[Part, ...]]:
        """The parts of every split that has any, by the names of the export."""
        parts = {name: self.manifest.split(split) for split, name in SPLIT_NAMES.items()}
        return {name: of_split for name, of_split in parts.items() if of_split}

    def arrays(self, split: str) -> Iterator[PartArrays]:
        """Give the images of a split, a part at a time.

        Raises:
            PartError: for a part that is missing or broken.
        """
        for part in self.splits[split]:
            yield self.read(part)


def image_source(
    data: SurrogateDataset, *, uint8: bool, on_part: Callable[[Part], None]
) -> ImageSource:
    """Return the images of a data set.

    Args:
        data: the set.
        uint8: whether pixels are rounded to eight bits, off by at most 1/510; logits stay those of
            the stored images.
        on_part: is called with every part that was read.
    """

    def read(part: Part) -> PartArrays:
        arrays = data.read(part)
        if uint8:
            rounded = encode_images(decode_images(arrays.images), "uint8")
            arrays = replace(arrays, images=rounded)
        on_part(part)
        return arrays

    dtype = "uint8" if uint8 else data.manifest.image_dtype
    return ImageSource(data.manifest.model_copy(update={"image_dtype": dtype}), read)
