"""Folder: atomic, picklable, errors in one line; on local disks and on another file system."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem, S3FileSystem

from dfshield.errors import DfshieldError, InputError
from dfshield.storage import Folder, MissingFileError


@pytest.fixture(params=["local", "elsewhere"])
def any_folder(request, tmp_path):
    """A local folder, and one on a file system without renames in the way of object stores."""
    if request.param == "local":
        return Folder.at(tmp_path / "a b" / "ü#1")
    store = MemoryFileSystem(skip_instance_cache=True)
    store.store, store.pseudo_dirs = {}, [""]
    handler = PyFileSystem(FSSpecHandler(store))
    return Folder(uri="memory://bucket/set?region=x", path="/bucket/set", filesystem=handler)


def test_bytes_and_json(any_folder):
    any_folder.write_bytes("deep/er/x.bin", b"\0\1")
    any_folder.write_bytes("deep/er/x.bin", b"\2")
    assert any_folder.read_bytes("deep/er/x.bin") == b"\2"
    any_folder.write_json("j.json", {"b": [1, 2.5e-5], "a": "ü"})
    first = any_folder.read_bytes("j.json")
    any_folder.write_json("j.json", {"a": "ü", "b": [1, 2.5e-5]})
    assert any_folder.read_bytes("j.json") == first
    assert first.endswith(b"}\n")
    assert any_folder.read_json("j.json") == {"a": "ü", "b": [1, 2.5e-5]}
    assert any_folder.list() == ["deep/er/x.bin", "j.json"]
    assert any_folder.list("deep") == ["deep/er/x.bin"]
    assert any_folder.exists("deep/er/x.bin")
    any_folder.delete("deep/er/x.bin")
    any_folder.delete("deep/er/x.bin")
    assert not any_folder.exists("deep/er/x.bin")
    assert any_folder.child("none").list() == []


def test_child_is_the_same_place(any_folder):
    child = any_folder.child("deep", "er")
    child.write_bytes("x", b"1")
    assert any_folder.read_bytes("deep/er/x") == b"1"
    assert child.list() == ["x"]
    assert any_folder.child("deep").child("er") == child


def test_the_parent_of_a_child_is_the_same_place(any_folder):
    parent, name = any_folder.child("deep", "er").parent()
    assert (parent.uri, name) == (any_folder.child("deep").uri, "er")


def test_child_keeps_the_options_of_the_uri():
    store = S3FileSystem(region="x", anonymous=True)
    folder = Folder(uri="s3://bucket/a/?region=x", path="bucket/a/", filesystem=store)
    assert folder.child("b", "c").uri == "s3://bucket/a/b/c?region=x"
    assert folder.child("b", "c").path == "bucket/a/b/c"


def test_names_of_files_and_folders(any_folder):
    assert any_folder.list() == any_folder.folders() == []
    for name in ("b/c/d", "b/a", "e", "b0/x"):
        any_folder.write_bytes(name, b"12")
    names = ["b/a", "b/c/d", "b0/x", "e"]
    assert any_folder.list() == list(any_folder.sizes()) == names
    assert any_folder.list("b") == list(any_folder.sizes("b")) == names[:2]
    assert any_folder.sizes()["e"] == any_folder.size("e") == 2
    assert any_folder.list("none") == []
    assert any_folder.folders() == ["b", "b0"]
    assert any_folder.child("b").folders() == ["c"]


def test_missing_file(any_folder):
    with pytest.raises(MissingFileError, match="x: there is no such file"):
        any_folder.read_bytes("x")


def test_lines_and_one_cut_short(tmp_path):
    folder = Folder.at(tmp_path)
    log, other = folder.lines("e.jsonl"), folder.lines("e.jsonl")
    assert log.append("one") == 4
    assert log.append("two") == 8
    assert folder.read_bytes("e.jsonl") == b"one\ntwo\n"
    (tmp_path / "e.jsonl").open("a").write('{"b"')
    assert other.append('{"c": 2}') == 22
    assert log.append("three") == 28
    log.close()
    other.close()
    assert log.append("four") == 33
    assert folder.read_bytes("e.jsonl") == b'one\ntwo\n{"b"\n{"c": 2}\nthree\nfour\n'
    assert folder.read_bytes("e.jsonl", start=22) == b"three\nfour\n"
    assert folder.size("e.jsonl") == 33
    assert folder.size("") is folder.size("none") is None


def test_a_file_of_lines_that_was_deleted_or_replaced_is_begun_again(tmp_path):
    log = Folder.at(tmp_path).lines("deep/e.jsonl")
    file = tmp_path / "deep" / "e.jsonl"
    log.append("one")
    shutil.rmtree(tmp_path / "deep")
    log.append("two")
    assert file.read_text() == "two\n"
    (tmp_path / "other").write_text("other")
    (tmp_path / "other").replace(file)
    log.append("three")
    assert file.read_text() == "other\nthree\n"


def test_locations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    relative, absolute = Folder.at("x y"), Folder.at(tmp_path / "x y")
    assert relative == absolute == Folder.at("~/x y") == Folder.at(absolute.uri)
    assert relative.local == tmp_path / "x y"
    assert str(relative) == str(tmp_path / "x y")
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(relative))  # noqa: S301 - our own bytes
    copy.write_bytes("f", b"1")
    assert (tmp_path / "x y" / "f").read_bytes() == b"1"


@pytest.mark.parametrize(
    "location", ["foo://x/y", "file://elsewhere/x", "", "~nobody-of-this-name/x", "s3://b/x?nope=1"]
)
def test_locations_that_cannot_be_opened(location):
    with pytest.raises(InputError) as caught:
        Folder.at(location)
    assert "\n" not in str(caught.value)
    assert location in str(caught.value)


def test_garbage_json(any_folder):
    any_folder.write_bytes("j.json", b'{"a": ')
    with pytest.raises(InputError, match=r"j\.json: not a JSON file") as caught:
        any_folder.read_json("j.json")
    assert "\n" not in str(caught.value)
    any_folder.write_bytes("j.json", b"\xff\xfe")
    with pytest.raises(InputError, match=r"j\.json: not a JSON file"):
        any_folder.read_json("j.json")


LEAVE_A_TEMPORARY = """
import os, sys
from dfshield.storage import Folder
os.fsync = lambda fd: os.kill(os.getpid(), 9)
Folder.at(sys.argv[1]).write_bytes("deep/x.bin", b"1" * 100)
"""


def test_leftovers_of_killed_writers(tmp_path):
    folder = Folder.at(tmp_path)
    folder.write_bytes("deep/x.bin", b"before")
    killed = subprocess.run([sys.executable, "-c", LEAVE_A_TEMPORARY, str(tmp_path)], check=False)
    assert killed.returncode == -9
    (left,) = [p for p in tmp_path.rglob("*") if p.name.endswith(".dfshield-tmp")]
    assert left.stat().st_size == 100
    assert left.name.startswith(".")
    assert folder.read_bytes("deep/x.bin") == b"before"
    assert folder.list() == ["deep/x.bin"]

    process = left.name.split(".")[-3]
    alive = left.with_name(left.name.replace(f".{process}.", f".{os.getpid()}."))
    fresh = left.with_name(left.name.replace(f".{left.name.split('.')[-4]}.", ".other-host."))
    stale = left.with_name(fresh.name.replace("x.bin", "y.bin"))
    for path in (alive, fresh, stale):
        path.write_bytes(b"")
    os.utime(stale, (time.time() - 7200,) * 2)
    names = sorted(p.relative_to(tmp_path).as_posix() for p in (left, stale))
    assert folder.sweep_temporary() == names
    assert alive.exists()
    assert fresh.exists()
    assert folder.sweep_temporary() == []
    assert folder.list() == ["deep/x.bin"]


def test_appends_of_several_processes_stay_whole(tmp_path):
    script = (
        "import sys, json; from dfshield.storage import Folder\n"
        "f = Folder.at(sys.argv[1]).lines('e.jsonl')\n"
        "for i in range(200): f.append(json.dumps([sys.argv[2] * 100, i]))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), who]) for who in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    for who in "ab":
        assert [i for name, i in lines if name == who * 100] == list(range(200))


def test_full_disk(small_disk):
    folder = Folder.at(small_disk / "set")
    folder.write_bytes("kept", b"1" * 1000)
    for write in (folder.write_bytes, lambda name, data: folder.lines(name).append(data.decode())):
        with pytest.raises(InputError) as caught:
            write("kept" if write == folder.write_bytes else "lines", b"1" * 2**21)
        assert str(caught.value).startswith(str(small_disk))
        assert "No space left on device" in str(caught.value)
        assert "free some space and run the same command again" in str(caught.value)
        assert "\n" not in str(caught.value)
        (small_disk / "set" / "lines").unlink(missing_ok=True)
    assert folder.read_bytes("kept") == b"1" * 1000
    assert [p.name for p in (small_disk / "set").iterdir()] == ["kept"]
    folder.write_bytes("more", b"1" * 1000)  # and it goes on once there is room


def test_read_only_folder(small_disk):
    folder = Folder.at(small_disk / "set")
    folder.write_bytes("kept", b"1")
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    assert subprocess.run(remount, check=False).returncode == 0
    for act in (
        lambda: folder.write_bytes("kept", b"2"),
        lambda: folder.child("new").write_bytes("x", b"2"),
        lambda: folder.lines("lines").append("x"),
        lambda: folder.delete("kept"),
    ):
        with pytest.raises(InputError, match="Read-only file system: make it writable") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert folder.read_bytes("kept") == b"1"


def test_a_file_in_the_way(tmp_path):
    Path(tmp_path / "file").write_text("x")
    folder = Folder.at(tmp_path / "file")
    for act in (
        lambda: folder.write_bytes("x", b""),
        lambda: folder.child("a").write_bytes("x", b""),
        lambda: Folder.at(tmp_path).child("x" * 300).write_bytes("x", b""),
    ):
        with pytest.raises(DfshieldError) as caught:
            act()
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    (tmp_path / "sub").mkdir()
    with pytest.raises(DfshieldError, match="sub"):
        Folder.at(tmp_path).read_bytes("sub")
