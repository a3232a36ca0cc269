"""Broken parts: found, named, made again as they were."""

import json
import shutil
import socket
import subprocess
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from tiny_run import call, contents, events, parts, run_of, stamps, succeed

from dfshield.runs.driver import parts_found
from dfshield.storage import SurrogateDataset, part_arrays, part_table, read_commit


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def tamper(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, lambda file: file.unlink()])
def test_a_part_of_a_finished_set_that_is_lost_or_cut_short_is_made_again(tiny, damage):
    config = tiny()
    run = run_of(config)
    name = "data/shard=00000/part-0001.parquet"
    part = parts(run)[name]
    whole = part.read_bytes()
    damage(part)
    broken = part.exists()

    report = call("verify", run)
    assert report.code == 3
    assert name in report.out
    assert ("broken" if broken else "missing") in report.out
    assert "2 of 3 parts verify" in report.out
    others = {k: v for k, v in stamps(run / "synthetic").items() if k != name}
    summaries = contents(run / "synthetic" / "summary")

    answer = succeed("synthesize", config)
    assert (name in answer.err) == broken
    assert part.read_bytes() == whole
    after = stamps(run / "synthetic")
    for kept in others:
        # What says when the stage was done, and what tells of the part that was made again.
        if kept != "stage.json" and not kept.startswith("summary/"):
            assert after[kept] == others[kept], kept
    assert contents(run / "synthetic" / "summary") == summaries
    assert succeed("verify", run).out.count("3 of 3 parts verify") == 1


def test_damage_within_a_part_of_a_finished_set_is_found_and_mended_by_verify_alone(tiny):
    """A set that is done is not read: its size is all that the stage looks at."""
    config = tiny()
    run = run_of(config)
    part = parts(run)["data/shard=00000/part-0001.parquet"]
    whole = part.read_bytes()
    tamper(part)
    damaged = part.read_bytes()
    succeed("run", config)
    assert part.read_bytes() == damaged
    assert call("verify", run).code == 3
    succeed("verify", run, "--repair")
    assert part.read_bytes() == whole


def reopened(run):
    """Take back that the data set is done."""
    file = run / "synthetic" / "stage.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "done": False}))


def empty(file):
    file.write_bytes(b"")


def swap(file):
    file.write_bytes(file.with_name("part-0000.parquet").read_bytes())


def reseal(file):
    """Make another valid part of it, whose checksum is another one."""
    table = pq.ParquetFile(file).read()
    data = SurrogateDataset.open(file.parents[2])
    (part,) = (part for part in data.manifest.parts if file.match(part.path))
    arrays = part_arrays(table, data.manifest, part)
    arrays = replace(arrays, labels=(arrays.labels + 1) % 10)
    pq.write_table(part_table(data.manifest, part, arrays), file)


@pytest.mark.parametrize("damage", [truncate, empty, swap, reseal])
def test_a_part_of_an_unfinished_set_that_does_not_fit_the_log_is_read(tiny, damage, whole_reads):
    config = tiny()
    run = run_of(config)
    expected = contents(run / "synthetic")
    reopened(run)
    name = "data/shard=00000/part-0001.parquet"
    damage(run / "synthetic" / name)
    answer = succeed("synthesize", config)
    assert whole_reads == [name]
    if damage is reseal:  # which no log tells from what the engine makes
        assert "made again" not in answer.err
        return
    assert f"{name}: " in answer.err
    assert contents(run / "synthetic") == expected


@pytest.fixture
def whole_reads(monkeypatch):
    """The parts that a driver reads whole, by path."""
    read = []

    def reading(folder, manifest, part):
        read.append(part.path)
        return read_commit(folder, manifest, part)

    monkeypatch.setattr(parts_found, "read_commit", reading)
    return read


def test_parts_that_an_earlier_release_has_made_are_read_whole_and_once(tiny, whole_reads):
    """Its log holds neither sizes nor agreement; damage within such a part is found."""
    config = tiny()
    run = run_of(config)
    expected = contents(run / "synthetic")
    log = [
        {key: value for key, value in event.items() if key not in ("bytes", "agreeing")}
        for event in events(run)
    ]
    (run / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in log))
    reopened(run)
    tampered, *others = sorted(parts(run))
    tamper(run / "synthetic" / tampered)
    assert f"{tampered}: " in succeed("synthesize", config).err
    assert sorted(whole_reads) == [tampered, *others]
    assert contents(run / "synthetic") == expected
    whole_reads.clear()
    reopened(run)
    succeed("synthesize", config)
    assert whole_reads == []
    assert contents(run / "synthetic") == expected


def test_damage_within_a_part_of_an_unfinished_set_is_found_by_the_training(tiny):
    """And mended by the one command that it names."""
    config = tiny()
    run = run_of(config)
    expected = contents(run / "synthetic")
    shutil.rmtree(run / "student")
    reopened(run)
    part = parts(run)["data/shard=00000/part-0001.parquet"]
    tamper(part)
    damaged = part.read_bytes()
    assert "made again" not in succeed("synthesize", config).err
    assert part.read_bytes() == damaged
    line = call("train", config).refusal(code=3)
    assert "data/shard=00000/part-0001.parquet: its content does not match its checksum" in line
    assert "dfshield verify RUN --repair" in line
    succeed("verify", run, "--repair")
    assert contents(run / "synthetic") == expected
    (broken,) = events(run, "part_broken")
    assert broken["path"].endswith("part-0001.parquet")
    succeed("train", config)


def test_a_finished_run_opens_no_part_and_no_weights(tiny):
    """All of them hold nothing but zeros, and nobody notices; names and sizes are right."""
    config = tiny()
    run = run_of(config)
    files = [*parts(run).values(), *run.glob("*/model.safetensors")]
    assert len(files) == 5
    for file in files:
        file.write_bytes(b"\0" * file.stat().st_size)
    before = stamps(run / "synthetic") | stamps(run / "teacher") | stamps(run / "evaluation")
    happened = len(events(run))
    succeed("run", config)
    assert [event["event"] for event in events(run)[happened:]] == ["report"]
    after = stamps(run / "synthetic") | stamps(run / "teacher") | stamps(run / "evaluation")
    assert after == before


def test_what_a_killed_process_was_writing_is_cleared_away(tiny):
    config = tiny(keep=("teacher",))
    run = run_of(config)
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [
        run / stage / f".{name}.{socket.gethostname()}.{dead.pid}.{'0' * 32}.dfshield-tmp"
        for stage, name in (
            ("synthetic/data/shard=00000", "part-0000.parquet"),
            ("student", "checkpoint.pt"),
        )
    ]
    for file in left:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half of it")
    succeed("synthesize", config)
    succeed("train", config)
    assert not [file for file in left if file.exists()]


def test_training_on_a_broken_part_is_refused_by_its_name(tiny):
    config = tiny(keep=("teacher", "synthetic"))
    run = run_of(config)
    tamper(parts(run)["data/shard=00000/part-0000.parquet"])
    line = call("train", config).refusal(code=3)
    assert "data/shard=00000/part-0000.parquet" in line
    assert not (run / "student" / "model.safetensors").exists()
