"""Little of a part without the rest: its footer, some columns, some images, by ranges of bytes.

What is read here is not checked against the part's checksum, which stands for the whole of it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfshield.storage.arrays import RANGE_TOLERANCE
from dfshield.storage.filesystem import Folder, MissingFileError
from dfshield.storage.manifest import Manifest, Part
from dfshield.storage.page_headers import HEADER_BYTES, read_page_header
from dfshield.storage.tables import (
    UNREADABLE,
    PartError,
    damaged,
    foreign,
    image_bytes,
    little_endian,
    recorded_checksum,
)

FOOTER_BYTES = 8192
"""How much of a file's end is read at first: more than the footer of a set with few classes."""
THREADS = 16
_ENDING = 8  # the length of the footer and the magic number

Range = tuple[int, int]
"""Where a range of bytes begins, and how many there are."""


@dataclass(frozen=True)
class Commit:
    """What is known of a part since it was committed.

    Attributes:
        checksum: of its columns, `PartArrays.checksum`.
        num_bytes: the size of its file; None where no file holds it.
    """

    checksum: str
    num_bytes: int | None


def fits_commit(folder: Folder, manifest: Manifest, part: Part, commit: Commit) -> bool:
    """Whether size, footer, place and recorded checksum of a part are those it was committed with.

    Damage within the columns does not show.
    """
    try:
        footer = _Footer.of(folder, part)
    except PartError:
        return False
    return (
        footer.num_bytes == commit.num_bytes
        and footer.file.metadata.num_rows == part.num_images
        and foreign(footer.file.schema_arrow, manifest, part) is None
        and recorded_checksum(footer.file.schema_arrow) == commit.checksum
    )


def read_columns(
    folder: Folder, manifest: Manifest, part: Part, *names: str
) -> tuple[np.ndarray, ...]:
    """Return columns of a part, ``label`` (n,) and ``teacher_logits`` (n, k), without the images.

    Raises:
        PartError: with the reason, if the part is missing, cannot be read, or belongs elsewhere.
    """
    table = _Footer.of(folder, part).checked(manifest, part).read(*names)
    found = {name: table[name].combine_chunks() for name in names}
    if "teacher_logits" in found:
        found["teacher_logits"] = found["teacher_logits"].flatten()
    arrays = {name: column.to_numpy() for name, column in found.items()}
    if "label" in arrays and not np.isin(arrays["label"], range(manifest.num_classes)).all():
        raise PartError(part, "a label is none of its classes", str(folder))
    return tuple(
        array.reshape(-1, manifest.num_classes) if name == "teacher_logits" else array
        for name, array in arrays.items()
    )


def read_images(folder: Folder, manifest: Manifest, part: Part, rows: Sequence[int]) -> np.ndarray:
    """Return the images of some rows of a part, as stored: (rows, c, h, w).

    Of a file as `write_part` writes it nothing else is read; of one that was compressed since, the
    column of the images.

    Raises:
        PartError: with the reason, if the part is missing, cannot be read, or belongs elsewhere.
    """
    footer = _Footer.of(folder, part).checked(manifest, part)
    width = image_bytes(manifest)
    values = footer.fixed_width_values("image", rows, width)
    if values is None:
        column = footer.read("image")["image"]
        values = [column[row].as_py() for row in rows]
    pixels = np.frombuffer(b"".join(values), little_endian(manifest))
    if not np.issubdtype(pixels.dtype, np.integer) and not _in_range(pixels):
        raise PartError(part, "pixels lie outside [0, 1]", str(folder))
    return pixels.reshape(-1, *manifest.image_shape).astype(manifest.image_dtype, copy=False)


@dataclass(frozen=True)
class _Footer:
    """The footer of a part's file, which says where its columns are.

    Attributes:
        folder: of the data set.
        part: which part.
        num_bytes: the size of the file.
        start: where the bytes that were read begin.
        end: these bytes, the whole footer among them.
        file: pyarrow's reader of the footer; not of the columns.
    """

    folder: Folder
    part: Part
    num_bytes: int
    start: int
    end: bytes
    file: pq.ParquetFile

    @classmethod
    def of(cls, folder: Folder, part: Part) -> "_Footer":
        """Read it, by one request where it is short."""

        def ending(file: pa.NativeFile) -> tuple[int, bytes]:
            size = file.size()
            found = file.read_at(min(size, FOOTER_BYTES), max(0, size - FOOTER_BYTES))
            length = int.from_bytes(found[-_ENDING : -_ENDING + 4], "little") + _ENDING
            if len(found) < length <= size:
                found = file.read_at(length, size - length)
            return size, found

        try:
            size, end = folder.read_within(part.path, ending)
        except MissingFileError:
            raise PartError(part, "missing", str(folder)) from None
        try:
            file = pq.ParquetFile(pa.BufferReader(end))
        except UNREADABLE as error:
            raise PartError(part, damaged(error), str(folder)) from None
        return cls(folder, part, size, size - len(end), end, file)

    def checked(self, manifest: Manifest, part: Part) -> "_Footer":
        """Return it if it is that of this part.

        Raises:
            PartError: with the reason, if not.
        """
        reason = foreign(self.file.schema_arrow, manifest, part)
        if reason is None and self.file.metadata.num_rows != part.num_images:
            reason = f"it has {self.file.metadata.num_rows} images, not {part.num_images}"
        if reason is not None:
            raise PartError(part, reason, str(self.folder))
        return self

    def read(self, *names: str) -> pa.Table:
        """Return columns, of which alone the bytes are read.

        pyarrow is shown a file of the right size in which only these columns and the footer stand.
        """
        chunks = [
            _place(chunk)
            for group in range(self.file.metadata.num_row_groups)
            for chunk in self._chunks(group)
            if chunk.path_in_schema.partition(".")[0] in names
        ]
        sparse = np.zeros(self.num_bytes, np.uint8)
        sparse[self.start :] = np.frombuffer(self.end, np.uint8)
        for (start, length), data in zip(chunks, self._bytes(chunks), strict=True):
            sparse[start : start + length] = np.frombuffer(data, np.uint8)
        try:
            table = pq.ParquetFile(pa.BufferReader(pa.py_buffer(sparse))).read(list(names))
            table.validate()
        except UNREADABLE as error:
            raise PartError(self.part, damaged(error), str(self.folder)) from None
        return table

    def fixed_width_values(self, name: str, rows: Sequence[int], width: int) -> list[bytes] | None:
        """Return single values of a column; None unless it stands in plain bytes, one by one."""
        if self.file.metadata.num_row_groups != 1:
            return None
        (chunk,) = (c for c in self._chunks(0) if c.path_in_schema == name)
        if chunk.compression != "UNCOMPRESSED" or not {*chunk.encodings} <= {"PLAIN", "RLE"}:
            return None
        start, length = _place(chunk)
        end, first = start + length, 0
        values: dict[int, bytes] = {}
        while start < end and len(values) < len(rows):
            (head,) = self._bytes([(start, min(HEADER_BYTES, end - start))])
            header = read_page_header(head)
            if header is None or header.num_bytes != header.num_values * width:
                return None
            start += header.length
            here = [row for row in rows if first <= row < first + header.num_values]
            found = self._bytes([(start + (row - first) * width, width) for row in here])
            values.update(zip(here, found, strict=True))
            first, start = first + header.num_values, start + header.num_bytes
        return [values[row] for row in rows] if len(values) == len(rows) else None

    def _chunks(self, group: int) -> list[pq.ColumnChunkMetaData]:
        found = self.file.metadata.row_group(group)
        return [found.column(index) for index in range(found.num_columns)]

    def _bytes(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return what the file holds in these ranges; a store is asked for several at once."""

        def read(file: pa.NativeFile) -> list[bytes]:
            def one(where: Range) -> bytes:
                return bytes(file.read_at(where[1], where[0]))

            if self.folder.local is not None:
                return [one(where) for where in ranges]
            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(one, ranges))

        found = self.folder.read_within(self.part.path, read) if ranges else []
        if any(len(data) != length for data, (_, length) in zip(found, ranges, strict=True)):
            raise PartError(self.part, "its columns lie beyond its end", str(self.folder))
        return found


def _in_range(pixels: np.ndarray) -> bool:
    """Whether every pixel lies in [0, 1], as nothing but damage lets one lie outside."""
    return bool(((pixels >= -RANGE_TOLERANCE) & (pixels <= 1 + RANGE_TOLERANCE)).all())


def _place(chunk: pq.ColumnChunkMetaData) -> Range:
    first = chunk.data_page_offset
    if chunk.has_dictionary_page:
        first = min(first, chunk.dictionary_page_offset)
    return first, chunk.total_compressed_size
