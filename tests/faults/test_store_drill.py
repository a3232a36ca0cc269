"""Rows of the drill: object stores that fail, two drivers at once, disks full or closed to us."""

import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress

import pytest
from drill import NUM_PARTS, SYNTHESIS, finished
from tiny_run import STARTED, ended, start, wait_until, write_config

from dfshield.runs.lease import LEASE_FILE, read_holder
from dfshield.storage import Folder

pytestmark = pytest.mark.slow


# Object stores


class StoredJob:
    """A job whose run lies on the object store; what was written there is known to the server."""

    def __init__(self, config, reference, account, s3):
        self.config, self.reference, self.account, self.s3 = config, reference, account, s3
        self.run = Folder.at("s3://bucket/runs/tiny")
        teacher = reference / "teacher"
        for file in teacher.iterdir():
            self.run.child("teacher").write_bytes(file.name, file.read_bytes())
        s3.stored.clear()
        self.seen = 0
        self.began = time.monotonic()

    def parts(self):
        """The parts that were written, as often as they were."""
        return [path for path in self.s3.stored if path.endswith(".parquet")]

    def unended(self):
        """How many parts were begun and not ended, lost ones included.

        Whoever begins one asks for its checkpoint, and once more to delete it when it is there.
        """
        asked = [r for r in self.s3.answered if r.method == "HEAD"]
        return sum("/synthetic/unfinished/" in r.path for r in asked) - 2 * len(self.parts())

    def ripe(self):
        return self.seen < len(set(self.parts())) < NUM_PARTS and self.unended() > self.account.lost

    def strike(self, kill):
        there = len(set(self.parts()))
        assert self.unended() > self.account.lost
        kill()
        self.account.lost = self.unended()
        self.seen = there
        self.account.kills += 1
        self.account.committed.append(there)

    def account_for(self, *, writers=1):
        self.account.lost = self.unended()
        # Two writers may both make a part; the one that ends later finds it there.
        assert self.account.lost <= (self.account.kills if writers == 1 else NUM_PARTS)
        data = self.run.child("synthetic")
        made = {name: data.read_bytes(name) for name in data.list()}
        folder = self.reference / "synthetic"
        expected = {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        assert made == expected
        times = Counter(self.parts())
        assert len(times) == NUM_PARTS
        assert max(times.values()) <= writers
        assert not self.run.exists(LEASE_FILE)
        self.account.seconds = time.monotonic() - self.began


@pytest.fixture
def stored(s3, counted, reference, tmp_path):
    """A function that gives a job on the object store."""

    def make(victim, **changes):
        changes = {**SYNTHESIS, **changes, "storage__path": "s3://bucket/runs"}
        config = write_config(tmp_path / "stored", **changes)
        account = counted(victim, "synthesis to S3")
        return StoredJob(config, reference(**SYNTHESIS), account, s3)

    return make


@pytest.mark.drill
def test_driver(stored):
    job = stored("driver: SIGKILL, thrice")
    for _ in range(3):
        process = start("synthesize", job.config)
        wait_until(job.ripe, process)
        job.strike(process.kill)
        assert ended(process).code == -signal.SIGKILL
    answer = finished(job)
    assert "has died" in answer.err
    job.account_for()


@pytest.mark.drill
def test_a_store_that_fails_now_and_then(stored, s3):
    job = stored("store: 500, slow, connections cut")
    count = Counter()

    def fault(request):
        count[request.method] += 1
        number = count[request.method]
        if number % 5 == 0:
            time.sleep(0.1)
        if number % 7 == 0:
            return 500
        return "cut" if number % 11 == 0 and request.method in ("PUT", "GET") else None

    s3.fault = fault
    answer = finished(job)
    job.account.kills = count.total() // 7
    assert "Traceback" not in answer.err
    job.account_for()


@pytest.mark.drill
def test_credentials_that_expire(stored, s3):
    job = stored("store: credentials expire")
    process = start("synthesize", job.config)
    wait_until(job.ripe, process)
    job.strike(lambda: s3.times(10**9, "expired", "PUT"))
    line = ended(process).refusal()
    assert "s3://bucket/runs/tiny" in line
    assert "the credentials have expired: renew them and run the same command again" in line
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in line
    s3.times(0, 500, "PUT")
    finished(job)
    job.account_for()


@pytest.mark.drill
def test_two_drivers_on_a_store(stored, s3):
    job = stored("store: two drivers at once")
    s3.slow(1.5, "PUT")  # or the first would be done before the second can begin
    first = start("synthesize", job.config)
    wait_until(job.ripe, first)
    line = ended(start("synthesize", job.config)).refusal()
    assert f"process {first.pid} on " in line
    second = start("synthesize", job.config)

    def let_in():
        holder = read_holder(job.run)
        if holder is not None and holder.process == first.pid:
            job.run.delete(LEASE_FILE)  # as often as the first renews it
        return holder is not None and holder.process == second.pid

    job.strike(lambda: wait_until(let_in, second))  # the lease is advice here, no lock
    answers = [ended(process) for process in (first, second)]
    assert [answer.code for answer in answers] == [0, 0], answers
    job.account_for(writers=2)


# Disks


@pytest.mark.drill
def test_full_disk(disturbed, small_disk):
    job = disturbed("disk: full")
    filler = small_disk / "filler"

    def fill():
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while stream.write(b"\0" * 512):
                pass

    job.move_to(small_disk)
    process = start("synthesize", job.config)
    wait_until(job.ripe, process)
    job.strike(fill)
    line = ended(process).refusal()
    assert str(small_disk) in line
    assert "free some space and run the same command again" in line
    filler.unlink()
    finished(job)
    job.account_for()


def remount(folder, how):
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        time.sleep(0.001)  # a file is open for writing just now


@pytest.mark.drill
def test_read_only_disk(disturbed, small_disk):
    job = disturbed("disk: read-only")
    job.move_to(small_disk)
    process = start("synthesize", job.config)
    wait_until(job.ripe, process)
    job.strike(lambda: remount(small_disk, "ro"))
    line = ended(process).refusal()
    assert "Read-only file system: make it writable" in line
    remount(small_disk, "rw")
    finished(job)
    job.account_for()


@pytest.mark.drill
def test_permission_lost(disturbed, mortal):
    job = disturbed("disk: permission lost")
    program = [*mortal, *STARTED]
    process = start("synthesize", job.config, command=program)
    wait_until(job.ripe, process)
    folders = [p for p in (job.run, *job.run.rglob("*")) if p.is_dir()]
    job.strike(lambda: [folder.chmod(0o555) for folder in folders])
    line = ended(process).refusal()
    assert "Permission denied: grant the permission or choose another folder" in line
    for folder in folders:
        folder.chmod(0o755)
    finished(job)
    job.account_for()
