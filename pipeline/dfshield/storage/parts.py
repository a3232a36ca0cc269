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
from dfshield.storage.tables import (
    PartError,
    damaged,
    part_arrays,
    part_table,
    recorded_engine,
    table_checksum,
)

# What pyarrow raises for a damaged Parquet file, depending on where the damage is.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError)


def write_part(folder: Folder, manifest: Manifest, part: Part, arrays: PartArrays) -> str:
    """Commit one part and return its checksum.

    A valid part that is there already is kept as it is (and its checksum returned); a broken one is
    replaced. The file appears under its name only when it is complete.

    Raises:
        InputError: if the arrays are not those of this part, or the folder cannot be written.
    """
    try:
        return read_part(folder, manifest, part).checksum()
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
    folder.write_bytes(part.path, sink.getvalue())
    return table_checksum(table)


def read_part(folder: Folder, manifest: Manifest, part: Part) -> PartArrays:
    """Read one part and check it against its checksum and its place in the manifest.

    Raises:
        PartError: with the reason, if it is missing, damaged, or belongs elsewhere.
    """
    try:
        data = folder.read_bytes(part.path)
    except MissingFileError:
        raise PartError(part, "missing", str(folder)) from None
    try:
        table = pq.read_table(pa.BufferReader(data))
    except _UNREADABLE as error:
        raise PartError(part, damaged(error), str(folder)) from None
    try:
        return part_arrays(table, manifest, part)
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
