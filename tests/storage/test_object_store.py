"""Folders on an object store: a real S3 server, and what goes wrong with one."""

import time

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from dfshield.errors import DfshieldError, InputError
from dfshield.storage import Folder, MissingFileError, locations


@pytest.fixture
def folder(s3):
    return Folder.at("s3://bucket/runs/x")


def test_files_come_back(folder, s3):
    assert folder.list() == []
    assert not folder.exists("a/b.bin")
    folder.write_bytes("a/b.bin", b"\0" * 3_000_000)
    assert s3.stored == ["/bucket/runs/x/a/b.bin"]
    assert {r.method for r in s3.requests} <= {"GET", "HEAD", "PUT"}
    folder.write_json("c.json", {"a": 1})
    assert folder.list() == ["a/b.bin", "c.json"]
    assert folder.child("a").read_bytes("b.bin") == b"\0" * 3_000_000
    with pytest.raises(MissingFileError):
        folder.read_bytes("none")
    folder.delete("none")
    folder.child("a").remove()
    assert folder.list() == ["c.json"]
    with folder.as_path("c.json", "none") as path:
        assert [p.name for p in path.iterdir()] == ["c.json"]


@pytest.mark.parametrize(("what", "size"), [(500, 1000), (503, 30_000_000), ("cut", 30_000_000)])
def test_an_upload_that_fails_is_done_again_and_shows_whole_or_not_at_all(folder, s3, what, size):
    data = bytes(range(256)) * (size // 256)
    s3.times(7, what, "PUT", "x.bin")
    folder.write_bytes("x.bin", data)
    assert folder.read_bytes("x.bin") == data


def test_a_download_that_fails_is_done_again(folder, s3):
    folder.write_bytes("x.bin", b"1" * 1000)
    s3.times(7, "cut", "GET", "x.bin")
    assert folder.read_bytes("x.bin") == b"1" * 1000
    s3.times(7, 500, "HEAD", "x.bin")
    assert folder.exists("x.bin")


def test_a_slow_store_is_waited_for(folder, s3):
    s3.slow(2.0, "PUT")
    folder.write_bytes("x.bin", b"1")
    s3.slow(0.0, "PUT")
    assert folder.read_bytes("x.bin") == b"1"


def test_a_store_that_stays_down_is_said_in_one_line_and_keeps_what_was_there(
    folder, s3, monkeypatch
):
    monkeypatch.setattr(locations, "PATIENCE_S", 2.0)
    folder.write_bytes("x.bin", b"before")
    s3.times(10_000, "cut", "PUT", "x.bin")
    with pytest.raises(DfshieldError) as caught:
        folder.write_bytes("x.bin", b"x" * 30_000_000)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("s3://bucket/runs/x/x.bin: ")
    s3.times(0, 500, "PUT")
    assert folder.read_bytes("x.bin") == b"before"


def test_a_store_that_does_not_answer_is_told_of_while_it_is_asked_again(folder, s3, caplog):
    s3.times(40, "cut", "PUT", "x.bin")
    folder.write_bytes("x.bin", b"1")
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("dfshield")]
    assert line.startswith("s3://bucket/runs/x/x.bin: ")
    assert line.endswith("; asking again for a minute")


def test_whatever_a_client_raises_is_said_in_one_line(monkeypatch):
    import fsspec

    class Strange(fsspec.AbstractFileSystem):
        protocol = "strange"

        def info(self, path, **kwargs):
            raise KeyError("no\nsuch entry") if "never" in path else RuntimeError("not\nnow")

    fsspec.register_implementation("strange", Strange, clobber=True)
    monkeypatch.setattr(locations, "PATIENCE_S", 2.0)
    with pytest.raises(DfshieldError, match=r"strange://a/b/x: RuntimeError: not now: mend it"):
        Folder.at("strange://a/b").exists("x")
    began = time.monotonic()
    with pytest.raises(DfshieldError, match="KeyError"):
        Folder.at("strange://a/never").exists("x")
    assert time.monotonic() - began < 1.0


def test_a_store_that_fails_when_it_is_opened_is_asked_again(s3, monkeypatch):
    failures = iter([OSError("AWS Error NETWORK_CONNECTION"), pa.ArrowException("Unknown error")])

    steady = pafs.FileSystem

    class Unsteady:
        @staticmethod
        def from_uri(location):
            for failure in failures:
                raise failure
            return steady.from_uri(location)

    with monkeypatch.context() as patch:
        patch.setattr(pafs, "FileSystem", Unsteady)
        folder = Folder.at("s3://bucket/runs")
    folder.write_bytes("x", b"1")
    assert s3.stored == ["/bucket/runs/x"]


def test_expired_credentials_are_said_at_once(folder, s3):
    s3.times(10_000, "expired", "PUT")
    before = len(s3.requests)
    with pytest.raises(InputError, match="the credentials have expired: renew them") as caught:
        folder.write_bytes("x.bin", b"1")
    assert len(s3.requests) - before <= 3
    assert "\n" not in str(caught.value)
    assert "a-secret-key" not in str(caught.value)


def test_a_missing_bucket_is_said(s3):
    with pytest.raises(InputError, match="there is no such bucket"):
        Folder.at("s3://no-such-bucket/runs").write_bytes("x", b"1")


@pytest.mark.parametrize(
    "location",
    [
        "s3://AKIA:hunter2@bucket/runs",
        "s3://bucket/runs?region=x&secret_key=hunter2&scheme=http",
        "s3://bucket/runs?access_key=hunter2",
    ],
)
def test_credentials_in_a_location_are_refused_and_not_shown(location):
    with pytest.raises(InputError, match="must not hold credentials") as caught:
        Folder.at(location)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)
    assert "bucket/runs" in str(caught.value)


def test_what_pyarrow_does_not_know_is_left_to_fsspec():
    folder = Folder.at("memory://somewhere/runs")
    folder.write_bytes("deep/x", b"1")
    assert Folder.at("memory://somewhere").list() == ["runs/deep/x"]
    assert folder.local is None
    folder.remove()
