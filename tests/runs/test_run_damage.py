"""Damaged records of a run: refused in one line, passed over or made again."""

import json
import shutil

import pytest
from tiny_run import call, contents, run_of, succeed

from dfshield.errors import InputError
from dfshield.runs.names import STAGE_FILE
from dfshield.runs.records import finish, read_record
from dfshield.runs.watching.event_log import read_events
from dfshield.runs.work.shard_summaries import ShardSummaries, shard_picture, shard_summaries
from dfshield.storage import Folder, SurrogateDataset

RECORD = {"format_version": 1, "identity": {}, "done": False}
SUMMARY = "summary/shard-00000.json"
PICTURE = "summary/shard-00000.png"


@pytest.fixture
def run(tiny):
    return run_of(tiny())


@pytest.fixture
def data(run):
    return SurrogateDataset.open(Folder.at(run / "synthetic"))


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        {"format_version": "1", "identity": {}, "done": False},
        {"format_version": 1, "identity": {}},
        {**RECORD, "done": "yes"},
        {**RECORD, "identity": []},
        {**RECORD, "done": True},
        {**RECORD, "done": True, "summary": "good"},
        {**RECORD, "engine": 3},
    ],
    ids=json.dumps,
)
def test_what_is_no_stage_record_is_refused(tmp_path, record):
    (tmp_path / STAGE_FILE).write_text(json.dumps(record))
    with pytest.raises(InputError, match="not a stage record; delete") as refused:
        read_record(Folder.at(tmp_path))
    assert str(tmp_path / STAGE_FILE) in str(refused.value)


def test_a_stage_record_is_read_as_it_was_written(tmp_path):
    folder = Folder.at(tmp_path)
    assert read_record(folder) is None
    folder.write_json(STAGE_FILE, RECORD)
    assert read_record(folder) == RECORD
    finish(folder, RECORD, fingerprint="a")
    assert read_record(folder) == {**RECORD, "done": True, "summary": {"fingerprint": "a"}}


def test_a_stage_record_of_a_newer_format_is_said_to_be_one(tmp_path):
    (tmp_path / STAGE_FILE).write_text('{"format_version": 2}')
    with pytest.raises(InputError, match="format version 2"):
        read_record(Folder.at(tmp_path))


@pytest.mark.parametrize("stage", ["teacher", "synthetic", "student"])
def test_status_refuses_a_broken_stage_record(run, stage):
    file = run / stage / STAGE_FILE
    file.write_text('{"format_version": 1, "identity": {}, "done": true}')
    assert str(file) in call("status", run).refusal()


def test_only_events_are_read(tmp_path):
    event = {"time": "2024-01-01T00:00:00.000+00:00", "event": "update"}
    lines = ["", "3", "[]", "null", "{}", '{"event": "update"}', '{"event": 1, "time": "x"}']
    lines += ['{"time": "x"}', json.dumps(event), "[" * 100_000, '{"time": "x", "ev']
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    assert read_events(Folder.at(tmp_path)) == [event]


def test_status_bears_with_events_that_lack_fields(run):
    whole = json.loads(succeed("status", run, "--json").out)["seeds"][0]["train"]
    with (run / "events.jsonl").open("a") as log:
        for event in ("training_started", "update"):
            log.write(json.dumps({"time": "x", "event": event}) + "\n")
    state = json.loads(succeed("status", run, "--json").out)
    assert state["seeds"][0]["train"]["last_update"] == whole["last_update"]
    assert "updates" not in state["seeds"][0]["train"]
    assert "Last event: update x" in succeed("status", run).out


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"model": "teacher"}'])
def test_status_refuses_a_broken_result(run, content):
    file = next((run / "evaluation").glob("*.json"))
    file.write_bytes(content)
    assert str(file) in call("status", run).refusal()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_images": 79},
        {"num_images": "80"},
        {"teacher_agreement": None},
        {"teacher_agreement": 1.5},
        {"class_counts": [80]},
        {"class_counts": 80},
        {"class_counts": ["8"] * 10},
    ],
    ids=json.dumps,
)
def test_a_broken_summary_is_made_again(data, changes):
    root = data.folder.local
    whole = contents(root)
    (root / SUMMARY).write_text(json.dumps({**json.loads(whole[SUMMARY]), **changes}))
    assert shard_summaries(data) == [json.loads(whole[SUMMARY])]
    ShardSummaries(data.folder, data, agreeing={}, todo=()).write_others()
    assert contents(root) == whole


@pytest.mark.parametrize("name", [SUMMARY, PICTURE])
@pytest.mark.parametrize("damage", [None, b"", b"[]", "truncated", "tampered"])
def test_a_lost_or_broken_file_of_a_summary_is_made_again(data, name, damage):
    root = data.folder.local
    whole = contents(root)
    content = whole[name]
    if damage is None:
        (root / name).unlink()
    elif damage == "truncated":
        (root / name).write_bytes(content[: len(content) // 2])
    elif damage == "tampered":
        middle = len(content) // 2
        (root / name).write_bytes(content[:middle] + b"\xff\x00" + content[middle + 2 :])
    else:
        (root / name).write_bytes(damage)
    assert shard_picture(data, 0) == whole[PICTURE]
    ShardSummaries(data.folder, data, agreeing={}, todo=()).write_others()
    assert contents(root) == whole


def test_summaries_of_a_data_set_without_them_are_computed_and_not_written(data):
    root = data.folder.local
    whole = contents(root)
    shutil.rmtree(root / "summary")
    assert shard_summaries(data) == [json.loads(whole[SUMMARY])]
    assert shard_picture(data, 0) == whole[PICTURE]
    assert not (root / "summary").exists()


def test_a_place_where_no_folder_can_be_made_is_refused():
    with pytest.raises(InputError, match="choose another folder"):
        Folder.at("/proc/x").write_json("a.json", {})
