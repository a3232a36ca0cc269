"""The manifest of a surrogate data set: what it was made of and which parts it consists of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import to_json

from dfshield.brief import BriefModel
from dfshield.canonical import identity_hash, json_text
from dfshield.errors import InputError
from dfshield.storage.arrays import ImageDtype
from dfshield.storage.columns import FORMAT_1, check_columns, is_format_1
from dfshield.storage.filesystem import Folder, MissingFileError

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
_OPTIONAL = ("generator", "source", "canary", "engine_trial")

Split = Literal["data", "holdout"]


@dataclass(frozen=True, slots=True)
class Part:
    """The unit of commit: the images of a few consecutive batches, in one file.

    A set may have a hundred thousand, so it is a plain record, which pydantic checks where a
    manifest is read.

    Attributes:
        split: "data" (trained on) or "holdout" (for selection only).
        shard: which shard of the split it belongs to; always 0 for the hold-out.
        index: its number within the shard.
        first_batch: global index (within the split) of its first batch.
        num_batches: how many consecutive batches it holds.
        num_images: how many images; only the last batch of a hold-out part may be short.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    split: Split
    shard: NonNegativeInt
    index: NonNegativeInt
    first_batch: NonNegativeInt
    num_batches: PositiveInt
    num_images: PositiveInt

    @property
    def path(self) -> str:
        """The file's name relative to the data set's folder."""
        if self.split == "holdout":
            return f"holdout/part-{self.index:04d}.parquet"
        return f"data/shard={self.shard:05d}/part-{self.index:04d}.parquet"

    @property
    def batches(self) -> range:
        """The global indices of its batches."""
        return range(self.first_batch, self.first_batch + self.num_batches)


class Manifest(BriefModel):
    """What a surrogate data set is: written once when the job is planned, and when it grows.

    Attributes:
        format_version: version of this file and of the parts: 1 for the columns that format 1 has,
            else 2; see `columns`.
        identity: all that the images depend on; two sets with equal identities hold equal images.
        teacher_fingerprint: SHA-256 of the teacher.
        image_shape: (c, h, w).
        image_dtype: how pixels are stored.
        num_classes: k.
        class_names: one name per class.
        seed: the run's seed.
        batch_size: images per batch.
        part_size: images per part, for parts planned from now on.
        shard_size: images per shard, likewise.
        columns: the synthesizer's own columns, NumPy dtypes by name.
        generator: fingerprint of the generator that images are sampled from; None if there is none
            or none has been fitted yet.
        source: where the set lies whose images these were derived from; None if there is none.
        engine: what ran the optimisation (device type, precision, threads, versions).
        canary: SHA-256 of what the worker that began computed of a few iterations, by which others
            are compared with it; None in sets of older versions. Images do not depend on it.
        engine_trial: verdict and figures of the trial that the engine was chosen by; None if there
            was none.
        parts: the plan, in the order of the images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: PositiveInt = 1
    identity: dict[str, JsonValue]
    teacher_fingerprint: str
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    image_dtype: ImageDtype
    num_classes: PositiveInt
    class_names: tuple[str, ...]
    seed: int = Field(ge=0, lt=2**63)
    batch_size: PositiveInt
    part_size: PositiveInt
    shard_size: PositiveInt
    columns: dict[str, str] = FORMAT_1
    generator: str | None = None
    source: str | None = None
    engine: dict[str, JsonValue]
    canary: str | None = None
    engine_trial: dict[str, JsonValue] | None = None
    parts: tuple[Part, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.num_classes} classes")
        next_batch: dict[Split, int] = {"data": 0, "holdout": 0}
        names = set()
        for part in self.parts:
            if part.first_batch != next_batch[part.split]:
                raise ValueError(f"{part.path} must begin with batch {next_batch[part.split]}")
            next_batch[part.split] += part.num_batches
            if -(-part.num_images // self.batch_size) != part.num_batches:
                raise ValueError(f"{part.path} cannot hold {part.num_images} images")
            names.add((part.split, part.shard if part.split == "data" else 0, part.index))
        if len(names) != len(self.parts):
            raise ValueError("two parts have the same name")
        return self

    @model_validator(mode="after")
    def _format_fits_columns(self) -> "Manifest":
        check_columns(self.columns)
        if self.format_version != format_of(self.columns):
            raise ValueError(f"format_version: its columns are of {format_of(self.columns)}")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in its file, which in format 1 names no columns."""
        left_out = {"columns"} if self.format_version == 1 else set()
        left_out |= {key for key in _OPTIONAL if getattr(self, key) is None}
        return self.model_dump(mode="json", exclude=left_out)

    def fingerprint(self) -> str:
        """Return a SHA-256 of all that these very images depend on, the plan included."""
        told = self.model_dump(mode="json", include={"identity", "engine", "generator", "parts"})
        return identity_hash(told)

    def split(self, split: Split) -> tuple[Part, ...]:
        """Return the planned parts of one split, in the order of the images."""
        return tuple(part for part in self.parts if part.split == split)

    def covering(self, split: Split, num_images: int | None = None) -> tuple[Part, ...]:
        """Return the leading parts that hold the first ``num_images`` images (None: all of them).

        Raises:
            InputError: if the plan holds fewer images.
        """
        parts = self.split(split)
        planned = sum(part.num_images for part in parts)
        if num_images is None:
            return parts
        if not 0 <= num_images <= planned:
            raise InputError(f"{num_images} images of {split!r} wanted, but {planned} are planned")
        starts = accumulate((part.num_images for part in parts), initial=0)
        return tuple(part for part, start in zip(parts, starts, strict=False) if start < num_images)


def by_shard(parts: Iterable[Part]) -> list[list[Part]]:
    """Return parts, which are in their order, grouped by split and shard."""
    groups = groupby(parts, key=lambda part: (part.split, part.shard))
    return [list(group) for _, group in groups]


def format_of(columns: Iterable[str]) -> int:
    """Return the version of the format that a set with these own columns is stored in."""
    return 1 if is_format_1(columns) else FORMAT_VERSION


def plan_parts(
    existing: Sequence[Part],
    *,
    split: Split,
    num_images: int,
    batch_size: int,
    part_size: int,
    shard_size: int,
) -> tuple[Part, ...]:
    """Plan the parts of one split: those that exist as they are, then what is still wanted.

    New parts go on with the batch after the last existing one and fill the last shard first. A set
    that is to hold fewer images than exist keeps its plan; readers take the first ``num_images``.

    Args:
        existing: parts planned before (those of the other split are passed over).
        split: which split is planned.
        num_images: how many images the split is to hold.
        batch_size: images per batch.
        part_size: images per part; the last part of a shard may be short.
        shard_size: images per shard; the last may be short. The hold-out is one shard.

    Raises:
        InputError: if a size does not fit, naming the key and the nearest value that does.
    """
    if batch_size < 1:
        raise InputError(f"synthesis.batch_size: {batch_size} must be at least 1")
    _require_multiple("storage.part_size", part_size, batch_size)
    _require_multiple("storage.shard_size", shard_size, batch_size)
    if split == "data":
        _require_multiple("synthesis.num_images", num_images, batch_size)
    elif num_images < 0:
        raise InputError(f"synthesis.num_holdout: {num_images} must be at least 0")

    parts = [part for part in existing if part.split == split]
    wanted = num_images - sum(part.num_images for part in parts)
    last = parts[-1] if parts else None
    shard, next_batch = (last.shard, last.batches.stop) if last else (0, 0)
    index = last.index + 1 if last else 0
    used = sum(part.num_images for part in parts if part.shard == shard)
    while wanted > 0:
        if split == "data" and used >= shard_size:
            shard, used, index = shard + 1, 0, 0
        room = part_size if split == "holdout" else min(part_size, shard_size - used)
        size = min(room, wanted)
        num_batches = -(-size // batch_size)
        parts.append(Part(split, shard, index, next_batch, num_batches, size))
        index, next_batch, used = index + 1, next_batch + num_batches, used + size
        wanted -= size
    return tuple(parts)


def _require_multiple(key: str, value: int, batch_size: int) -> None:
    if value < 1 or value % batch_size:
        nearest = max(1, (value + batch_size // 2) // batch_size) * batch_size
        raise InputError(
            f"{key}: {value} is not a positive multiple of synthesis.batch_size ({batch_size}): "
            f"the nearest one is {nearest}"
        )


def read_manifest(folder: Folder) -> Manifest:
    """Read and check the manifest of a surrogate data set.

    Raises:
        InputError: if it is missing, damaged or written by a newer version.
    """
    try:
        value = folder.read_json(MANIFEST)
    except MissingFileError:
        raise InputError(f"{folder}: not a surrogate data set: it has no {MANIFEST}") from None
    version = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"{folder}/{MANIFEST}: written by a newer dfshield (format {version}, this one reads "
            f"up to {FORMAT_VERSION}): upgrade dfshield"
        )
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = ": ".join([*(str(step) for step in first["loc"]), first["msg"]])
        raise InputError(f"{folder}/{MANIFEST}: not a valid manifest: {said}") from None


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Write the manifest, atomically; equal manifests give equal bytes."""
    value = manifest.to_json()
    parts = [dict(sorted(part.items())) for part in value["parts"]]
    text = json_text({**value, "parts": []})
    if parts:  # of numbers and words, which are the same in any JSON; there may be very many
        listed = to_json(parts, indent=2).decode().replace("\n", "\n  ")
        text = text.replace('\n  "parts": []', f'\n  "parts": {listed}', 1)
    folder.write_bytes(MANIFEST, text.encode())
