"""Broken parts: found, named, made again as they were."""

import socket
import subprocess

import pytest
from tiny_run import call, events, parts, run_of, stamps, succeed

from dfshield.runs.records import reopen
from dfshield.storage import Folder


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

    answer = succeed("synthesize", config)
    assert (name in answer.err) == broken
    assert part.read_bytes() == whole
    after = stamps(run / "synthetic")
    for kept in others:
        if kept != "stage.json":  # says when the stage was done
            assert after[kept] == others[kept], kept
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


def test_every_part_of_an_unfinished_set_is_read_and_checked(tiny):
    config = tiny()
    run = run_of(config)
    reopen(Folder.at(run / "synthetic"))
    part = parts(run)["data/shard=00000/part-0001.parquet"]
    whole = part.read_bytes()
    tamper(part)
    assert part.name in succeed("synthesize", config).err
    assert part.read_bytes() == whole


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
