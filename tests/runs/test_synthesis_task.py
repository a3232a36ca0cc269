"""The task of making parts, without the stage around it."""

import pytest
from tiny_run import run_of, stamps

from dfshield.config import load_config
from dfshield.runs import Engine, InProcessExecutor, SilentMonitor
from dfshield.runs.synthesis_task import SynthesisTask
from dfshield.storage import Folder, read_manifest


class Counting(SilentMonitor):
    """Adds up the progress."""

    amount = 0.0

    def advance(self, amount):
        self.amount += amount


def test_a_part_that_a_lost_worker_had_committed_is_not_made_again(tiny):
    path = tiny(keep=("teacher", "synthetic"))
    config, run = load_config(str(path), ()), run_of(path)
    manifest = read_manifest(Folder.at(run / "synthetic"))
    task = SynthesisTask(
        teacher=str(run / "teacher"),
        data=str(run / "synthetic"),
        synthesis=config.synthesis,
        sink="parquet",
    )
    part = manifest.parts[0]
    file, executor = run / "synthetic" / part.path, InProcessExecutor()

    def made():
        monitor = Counting()
        engine = Engine.from_json(manifest.engine)
        (done,) = executor.map(task, [[part]], engine=engine, monitor=monitor)
        return done.result.checksum, monitor.amount

    before, expected = stamps(run), file.read_bytes()
    checksum, images = made()
    assert images == 0
    assert stamps(run) == before
    file.write_bytes(expected[:-10])
    assert made() == (checksum, pytest.approx(part.num_images))
    assert file.read_bytes() == expected
