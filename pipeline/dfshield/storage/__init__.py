"""Storage: file systems, atomic commits, the surrogate data set and checkpoints."""

from dfshield.storage.arrays import (
    ImageDtype,
    PartArrays,
    decode_images,
    encode_images,
    num_agreeing,
)
from dfshield.storage.checkpoint import Checkpoint
from dfshield.storage.filesystem import Folder, MissingFileError
from dfshield.storage.locations import redacted
from dfshield.storage.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Part,
    Split,
    by_shard,
    format_of,
    plan_parts,
    read_manifest,
    write_manifest,
)
from dfshield.storage.part_ranges import Commit, fits_commit
from dfshield.storage.parts import (
    check_part,
    part_engine,
    read_commit,
    read_part,
    write_part,
)
from dfshield.storage.surrogate import (
    PartVerdict,
    SurrogateDataset,
    SurrogateReader,
    SurrogateTables,
    SurrogateTensors,
    VerifyReport,
    verify,
)
from dfshield.storage.tables import PartError, part_arrays, part_table, table_checksum
from dfshield.storage.tensor_file import TensorFile, TensorLayout
from dfshield.storage.whole import require_absent, whole_file, whole_folder

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "Checkpoint",
    "Commit",
    "Folder",
    "ImageDtype",
    "Manifest",
    "MissingFileError",
    "Part",
    "PartArrays",
    "PartError",
    "PartVerdict",
    "Split",
    "SurrogateDataset",
    "SurrogateReader",
    "SurrogateTables",
    "SurrogateTensors",
    "TensorFile",
    "TensorLayout",
    "VerifyReport",
    "by_shard",
    "check_part",
    "decode_images",
    "encode_images",
    "fits_commit",
    "format_of",
    "num_agreeing",
    "part_arrays",
    "part_engine",
    "part_table",
    "plan_parts",
    "read_commit",
    "read_manifest",
    "read_part",
    "redacted",
    "require_absent",
    "table_checksum",
    "verify",
    "whole_file",
    "whole_folder",
    "write_manifest",
    "write_part",
]
