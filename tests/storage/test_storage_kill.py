"""SIGKILL of a process that writes parts: every file there is, is whole."""

import subprocess
import sys
import time

import pytest

from dfshield.storage import Folder, SurrogateDataset, check_part, verify, write_manifest

WRITER = """
import sys
import numpy as np
from dfshield.storage import PartArrays, SurrogateDataset, write_part

data = SurrogateDataset.open(sys.argv[1])
manifest = data.manifest
for part in data.missing():
    sys.stdin.readline()
    n = part.num_images
    draw = np.random.default_rng(part.first_batch)
    write_part(data.folder, manifest, part, PartArrays(
        images=draw.random((n, *manifest.image_shape), np.float32),
        labels=np.zeros(n, np.int64),
        teacher_logits=np.zeros((n, manifest.num_classes), np.float32),
        batch=np.repeat(np.array(part.batches), manifest.batch_size),
        seed=np.full(n, manifest.seed),
        columns={name: np.ones(n, dtype) for name, dtype in manifest.columns.items()},
    ))
    print(part.path, flush=True)
"""


def start(folder):
    """A process that writes one missing part for every line it is sent."""
    command = [sys.executable, "-c", WRITER, str(folder.local)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def temporary(folder):
    return {path.name for path in folder.local.glob("data/*/.*-tmp")}


def wait_for_a_part_under_way(folder, writer, before):
    """On a busy machine a part may be done before it was seen: then the next one is begun."""
    done, deadline = len(folder.list("data")), time.monotonic() + 60
    writer.stdin.write("\n")
    while time.monotonic() < deadline:
        if temporary(folder) - before:
            return
        if len(folder.list("data")) > done:
            done += 1
            writer.stdin.write("\n")
    pytest.fail("no part was under way for a minute")


@pytest.mark.slow
def test_killed_writers_leave_valid_parts_or_none(tmp_path, make_manifest):
    manifest = make_manifest(
        image_shape=(3, 256, 256), num_images=160, num_holdout=0, part_size=16, shard_size=48
    )
    folder = Folder.at(tmp_path / "set")
    write_manifest(folder, manifest)
    committed, left = {}, set()
    for _ in range(2):
        writer = start(folder)
        for _ in range(2):
            writer.stdin.write("\n")
            assert writer.stdout.readline()
        wait_for_a_part_under_way(folder, writer, left)
        writer.kill()
        assert writer.wait() == -9
        left |= temporary(folder)
        valid = {name: (folder.local / name).stat().st_mtime_ns for name in folder.list("data")}
        assert len(valid) >= len(committed) + 2
        assert valid.items() >= committed.items()  # what is there is not written again
        for part in manifest.parts:
            expected = None if part.path in valid else "missing"
            assert check_part(folder, manifest, part) == expected
        committed = valid
    assert left, "no kill hit a part under way"
    assert SurrogateDataset.open(folder).missing()

    start(folder).communicate("\n" * len(manifest.parts))
    assert verify(folder).ok
    assert SurrogateDataset.open(folder).missing() == []
    assert {name.rpartition("/")[2] for name in folder.sweep_temporary()} == left
    assert temporary(folder) == set()
