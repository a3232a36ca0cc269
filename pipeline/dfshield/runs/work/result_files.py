"""The files of an evaluation: a result with its rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from dfshield.errors import InputError
from dfshield.evaluation import EvaluationResult, ImageRecords
from dfshield.storage import Folder


def write_result(
    folder: Folder, name: str, result: EvaluationResult, records: ImageRecords
) -> None:
    """Write the rows of all images, then the result, which says that both are there."""
    sink = pa.BufferOutputStream()
    pq.write_table(records.to_table(), sink)
    folder.write_bytes(f"{name}.parquet", sink.getvalue())
    folder.write_bytes(f"{name}.json", (result.to_json() + "\n").encode())


def read_result(folder: Folder, name: str) -> EvaluationResult:
    """Return a result.

    Raises:
        InputError: if it is missing or damaged.
    """
    path = f"{name}.json"
    return EvaluationResult.from_json(
        folder.read_bytes(path).decode(errors="replace"), source=f"{folder}/{path}"
    )


def read_records(folder: Folder, name: str) -> ImageRecords:
    """Return the rows of a result's images.

    Raises:
        InputError: if the file is missing or damaged.
    """
    path = f"{name}.parquet"
    try:
        table = pq.read_table(pa.BufferReader(folder.read_bytes(path)))
    except pa.ArrowInvalid as error:
        raise InputError(f"{folder}/{path}: not a Parquet file: {error}") from None
    return ImageRecords.from_table(table, source=f"{folder}/{path}")
