"""Reading TensorBoard's event files: records of length, checksum, protocol buffer, checksum."""

import struct
from collections import defaultdict
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def records(file: Path) -> list[Event]:
    """The events of a file that nothing has cut short."""
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        checksums = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length :][:4])
        assert checksums == (masked_crc32c(data[:8]), masked_crc32c(body))
        found.append(Event.FromString(body))
        data = data[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    return found


def scalars(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every scalar of a file, in order."""
    found = defaultdict(list)
    for event in records(file):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return dict(found)


def event_files(run: Path) -> list[Path]:
    """The event files of a run, in no order."""
    return sorted((run / "tensorboard").glob("events.out.tfevents.*"))
