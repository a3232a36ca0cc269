"""One part of the surrogate data set as a plain Parquet file: its table, and nothing beside it.

Nothing is compressed: optimised pixels hardly shrink (zstd: 0-6 % as uint8, 12-17 % as floats) and
would be read two to six times more slowly. Equal arrays give equal bytes with equal pyarrow.
"""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfshield.storage.arrays import PartArrays
from dfshield.storage.filesystem import Folder, MissingFileError
from dfshield.storage.manifest import Manifest, Part
from dfshield.storage.part_ranges import Commit
from dfshield.storage.tables import (
    UNREADABLE,
    PartError,
    damaged,
    part_arrays,
    part_table,
    recorded_engine,
    table_checksum,
)


def write_part(folder: Folder, manifest: Manifest, part: Part, arrays: PartArrays) -> Commit:
    """Commit one part and return its checksum and size.

    A valid part that is there already is kept as it is (and its own returned); a broken one is
    replaced. The file appears under its name only when it is complete.

    Raises:
        InputError: if the arrays are not those of this part, or the folder cannot be written.
    """
    try:
        return read_commit(folder, manifest, part)[1]
    except PartError:
        pass
    table = part_table(manifest, part, arrays)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=len(table),
        compression="none",
        use_dictionary=False,
        write_statistics=False,  # smallest and largest image are of no use to anyone
    )
    data = sink.getvalue()
    folder.write_bytes(part.path, data)
    return Commit(table_checksum(table), data.size)


def read_part(folder: Folder, manifest: Manifest, part: Part) -> PartArrays:
    """Read one part and check it against its checksum and its place in the manifest.

    Raises:
        PartError: with the reason, if it is missing, damaged, or belongs elsewhere.
    """
    return read_commit(folder, manifest, part)[0]


def read_commit(folder: Folder, manifest: Manifest, part: Part) -> tuple[PartArrays, Commit]:
    """Do as `read_part`, and return checksum and size of the part besides."""
    try:
        data = folder.read_bytes(part.path)
    except MissingFileError:
        raise PartError(part, "missing", str(folder)) from None
    try:
        table = pq.read_table(pa.BufferReader(data))
    except UNREADABLE as error:
        raise PartError(part, damaged(error), str(folder)) from None
    try:
        return part_arrays(table, manifest, part), Commit(table_checksum(table), len(data))
    except PartError as error:
        raise PartError(part, error.reason, str(folder)) from None


def part_engine(folder: Folder, part: Part) -> dict[str, Any]:
    """Return the engine that made a part which verifies."""
    return recorded_engine(pq.read_schema(pa.BufferReader(folder.read_bytes(part.path))))


def check_part(folder: Folder, manifest: Manifest, part: Part) -> str | None:
    """Return None when the part verifies, else the reason why not. Reads the whole file."""
    try:
        read_part(folder, manifest, part)
    except PartError as error:
        return error.reason
    return None
