"""Reading a surrogate data set back: tensors for training, and a check of every file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from dfshield.brief import Brief
from dfshield.storage.arrays import PartArrays
from dfshield.storage.filesystem import Folder
from dfshield.storage.manifest import Manifest, Part, Split, read_manifest
from dfshield.storage.part_ranges import read_columns, read_images
from dfshield.storage.parts import check_part, read_part
from dfshield.storage.tables import part_arrays


@dataclass(frozen=True, eq=False, repr=False)
class SurrogateTensors(Brief):
    """Images of a surrogate data set on one device.

    Attributes:
        images: as stored: float32 or float16 in [0, 1], or uint8 in [0, 255].
        labels: the class each image was made for.
        teacher_logits: the teacher's logits of these very images.
    """

    images: Shaped[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    teacher_logits: Float[Tensor, "n k"]

    def __len__(self) -> int:
        return len(self.images)


class SurrogateReader(ABC):
    """What reads the parts of a surrogate data set.

    Attributes:
        manifest: what the set holds.
    """

    manifest: Manifest

    @abstractmethod
    def read(self, part: Part) -> PartArrays:
        """Return one part, checked.

        Raises:
            PartError: when it is missing or does not verify.
        """

    def placed(
        self, split: Split = "data", num_images: int | None = None
    ) -> list[tuple[Part, slice]]:
        """Return the parts of the first ``num_images`` images (None: all), each with its rows.

        The rows of the last part may be fewer than the part holds.

        Raises:
            InputError: if fewer images are planned.
        """
        parts = self.manifest.covering(split, num_images)  # refuses what is not planned
        ends = list(accumulate(part.num_images for part in parts))
        rows = [slice(end - part.num_images, end) for part, end in zip(parts, ends, strict=True)]
        if num_images:
            rows[-1] = slice(rows[-1].start, num_images)
        return list(zip(parts, rows, strict=True))

    def columns(self, part: Part, *names: str) -> tuple[np.ndarray, ...]:
        """Return columns of a part, ``label`` and ``teacher_logits``; from a file, nothing else.

        Raises:
            PartError: when it is missing or cannot be read.
        """
        arrays = self.read(part)
        found = {"label": arrays.labels, "teacher_logits": arrays.teacher_logits}
        return tuple(found[name] for name in names)

    def images(self, part: Part, rows: Sequence[int]) -> np.ndarray:
        """Return single images of a part as stored, (rows, c, h, w); from a file, little else.

        Raises:
            PartError: when it is missing or cannot be read.
        """
        return self.read(part).images[list(rows)]

    def load(
        self,
        split: Split = "data",
        *,
        num_images: int | None = None,
        device: str | torch.device = "cpu",
    ) -> SurrogateTensors:
        """Read the first ``num_images`` images (None: all) onto a device, checking every part.

        Never holds more than the result and one part.

        Raises:
            PartError: when a part is missing or does not verify.
            InputError: if fewer images are planned.
        """
        manifest, placed = self.manifest, self.placed(split, num_images)
        total = placed[-1][1].stop if placed else 0
        dtype: torch.dtype = getattr(torch, manifest.image_dtype)
        images = torch.empty((total, *manifest.image_shape), dtype=dtype, device=device)
        labels = torch.empty(total, dtype=torch.int64, device=device)
        logits = torch.empty((total, manifest.num_classes), device=device)
        for part, rows in placed:
            arrays = self.read(part)
            size = rows.stop - rows.start
            images[rows] = torch.tensor(arrays.images[:size])
            labels[rows] = torch.tensor(arrays.labels[:size])
            logits[rows] = torch.tensor(arrays.teacher_logits[:size])
            del arrays  # else it would live until the next part has been read
        return SurrogateTensors(images, labels, logits)


@dataclass(frozen=True)
class SurrogateDataset(SurrogateReader):
    """The reader of a surrogate data set in a folder.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
    """

    folder: Folder
    manifest: Manifest

    @classmethod
    def open(cls, location: str | Path | Folder) -> "SurrogateDataset":
        """Open a data set by the folder that holds its ``manifest.json``.

        Raises:
            InputError: if there is no manifest, or it is damaged or of a newer version.
        """
        folder = location if isinstance(location, Folder) else Folder.at(location)
        return cls(folder, read_manifest(folder))

    def problems(self, split: Split | None = None) -> dict[Part, str]:
        """Return every planned part that does not verify, with the reason. Reads everything."""
        verdicts = {
            part: check_part(self.folder, self.manifest, part) for part in self._parts(split)
        }
        return {part: reason for part, reason in verdicts.items() if reason is not None}

    def missing(self, split: Split | None = None) -> list[Part]:
        """Return the planned parts without a file. Looks at names only."""
        present = {*self.folder.list("data"), *self.folder.list("holdout")}
        return [part for part in self._parts(split) if part.path not in present]

    def read(self, part: Part) -> PartArrays:
        """Return one part from its file, checked; see `SurrogateReader`."""
        return read_part(self.folder, self.manifest, part)

    def columns(self, part: Part, *names: str) -> tuple[np.ndarray, ...]:
        """Return columns from the file, not checked against its checksum; see `SurrogateReader`."""
        return read_columns(self.folder, self.manifest, part, *names)

    def images(self, part: Part, rows: Sequence[int]) -> np.ndarray:
        """Return images from the file, not checked against its checksum; see `SurrogateReader`."""
        return read_images(self.folder, self.manifest, part, rows)

    def _parts(self, split: Split | None) -> tuple[Part, ...]:
        return self.manifest.parts if split is None else self.manifest.split(split)


@dataclass(frozen=True)
class SurrogateTables(SurrogateReader):
    """The reader of a surrogate data set whose parts are tables outside any folder.

    Attributes:
        manifest: what the set holds.
        get_table: returns the table of a part, as `part_table` made it.
    """

    manifest: Manifest
    get_table: Callable[[Part], pa.Table]

    def read(self, part: Part) -> PartArrays:
        """Return one part from its table, checked; see `SurrogateReader`."""
        return part_arrays(self.get_table(part), self.manifest, part)


@dataclass(frozen=True)
class PartVerdict:
    """What ``verify`` found of one planned part; the reason is empty unless it is broken."""

    path: str
    verdict: Literal["ok", "missing", "broken"]
    reason: str = ""


@dataclass(frozen=True, repr=False)
class VerifyReport(Brief):
    """What ``verify`` found of a data set.

    Attributes:
        location: where it lies.
        parts: one verdict for every planned part.
        extra_files: files among the parts that the manifest does not plan.
        num_images: images planned.
        num_valid_images: images in parts that verify.
    """

    location: str
    parts: tuple[PartVerdict, ...]
    extra_files: tuple[str, ...]
    num_images: int
    num_valid_images: int

    @property
    def ok(self) -> bool:
        """Whether every planned part is there and verifies."""
        return all(part.verdict == "ok" for part in self.parts)

    def count(self, verdict: Literal["ok", "missing", "broken"]) -> int:
        """Return how many parts have this verdict."""
        return sum(part.verdict == verdict for part in self.parts)

    def to_json(self) -> dict[str, object]:
        """Return the report as a value that ``json.dumps`` takes."""
        return {
            "location": self.location,
            "ok": self.ok,
            "num_images": self.num_images,
            "num_valid_images": self.num_valid_images,
            "num_ok": self.count("ok"),
            "num_missing": self.count("missing"),
            "num_broken": self.count("broken"),
            "parts": [asdict(part) for part in self.parts],
            "extra_files": list(self.extra_files),
        }


def verify(
    location: str | Path | Folder,
    problems_of: Callable[[SurrogateDataset], dict[Part, str]] = SurrogateDataset.problems,
) -> VerifyReport:
    """Check every part of a data set against its checksum and the manifest. Changes nothing.

    Args:
        location: the folder that holds its manifest.
        problems_of: reads every part and returns those that do not verify, with the reason; by
            default here, one after the other.

    Raises:
        InputError: if there is no readable manifest.
    """
    data = SurrogateDataset.open(location)
    missing, problems = set(data.missing()), problems_of(data)

    def verdict(part: Part) -> PartVerdict:
        if part in missing:
            return PartVerdict(part.path, "missing")
        if part in problems:
            return PartVerdict(part.path, "broken", problems[part])
        return PartVerdict(part.path, "ok")

    parts = data.manifest.parts
    planned = {part.path for part in parts}
    present = [*data.folder.list("data"), *data.folder.list("holdout")]
    return VerifyReport(
        location=str(data.folder),
        parts=tuple(verdict(part) for part in parts),
        extra_files=tuple(name for name in present if name not in planned),
        num_images=sum(part.num_images for part in parts),
        num_valid_images=sum(part.num_images for part in parts if part not in problems),
    )
