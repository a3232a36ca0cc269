"""Doing a command again, growing a run, and refusing to mix two runs in one folder."""

import json
import shutil

import torch
from tiny_run import call, contents, events, parts, run_of, stamps, succeed

from dfshield.storage import SurrogateDataset


def made(run):
    """What a second command must not touch."""
    all_files = stamps(run)
    return {
        name: stamp
        for name, stamp in all_files.items()
        if name.startswith(("teacher/", "synthetic/", "evaluation/"))
        or name in ("student/model.safetensors", "student/config.json", "student/history.json")
    }


def edit_json(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_the_same_command_again_does_nothing(tiny):
    config = tiny()
    run = run_of(config)
    before, happened = made(run), events(run)
    assert "synthetic/data/shard=00000/part-0000.parquet" in before
    succeed("run", config)
    assert made(run) == before
    new = events(run)[len(happened) :]
    assert [event["event"] for event in new] == ["report"]


def test_growing_appends_parts_and_training_then_wants_another_name(tiny):
    config = tiny()
    run = run_of(config)
    before = stamps(run / "synthetic" / "data")
    succeed("synthesize", config, "synthesis.num_images=120")
    assert before.items() < stamps(run / "synthetic" / "data").items()
    assert "data/shard=00001/part-0000.parquet" in parts(run)
    assert json.loads(succeed("verify", run, "--json").out)[0]["num_valid_images"] == 140

    student = stamps(run / "student")
    line = call("train", config, "synthesis.num_images=120").refusal()
    assert "synthesis.num_images: 80 → 120" in line
    assert "name=" in line
    assert stamps(run / "student") == student
    succeed("train", config)  # the first 80 are what this student was trained on


def test_a_grown_data_set_holds_what_one_planned_larger_holds(tiny):
    grown, planned = tiny(name="grown"), tiny(keep=("teacher",), name="planned")
    for config in (grown, planned):
        succeed("synthesize", config, "synthesis.num_images=160")
    assert contents(run_of(grown) / "synthetic" / "data") == contents(
        run_of(planned) / "synthetic" / "data"
    )


def test_a_holdout_goes_on_by_the_rule_that_it_was_begun_with(tiny):
    alike, grown = "synthesis.method.holdout=alike", "synthesis.num_holdout=80"
    old, planned, new = (
        tiny(keep=("teacher",), name=name, synthesis__num_holdout=40)
        for name in ("old", "planned", "new")
    )
    succeed("synthesize", old, alike)
    succeed("synthesize", planned, alike, grown)
    before, happened = contents(run_of(old) / "synthetic"), events(run_of(old))
    succeed("synthesize", old)
    assert contents(run_of(old) / "synthetic") == before
    assert "part_committed" not in {
        event["event"] for event in events(run_of(old))[len(happened) :]
    }
    line = call("synthesize", old, "synthesis.method.holdout=fixed").refusal()
    assert "synthesis.method.holdout: alike → fixed" in line
    succeed("synthesize", old, grown)
    holdout = contents(run_of(old) / "synthetic" / "holdout")
    assert holdout == contents(run_of(planned) / "synthetic" / "holdout")

    succeed("synthesize", new, grown)
    opened = [SurrogateDataset.open(run_of(config) / "synthetic") for config in (old, new)]
    assert torch.equal(*(dataset.load("data").images for dataset in opened))
    assert not torch.equal(*(dataset.load("holdout").images for dataset in opened))


def test_a_student_whose_images_are_gone_is_known_by_their_rule(tiny):
    config = tiny(keep=("teacher",))
    succeed("run", config, "synthesis.method.holdout=alike")
    before = made(run_of(config))
    shutil.rmtree(run_of(config) / "synthetic")
    succeed("evaluate", config)
    left = {name: stamp for name, stamp in before.items() if not name.startswith("synthetic/")}
    assert made(run_of(config)) == left
    succeed("synthesize", config)
    identity = json.loads((run_of(config) / "synthetic" / "stage.json").read_text())["identity"]
    assert "holdout" not in identity["synthesis"]["method"]


def test_other_settings_are_refused_with_old_and_new_value_and_nothing_changes(tiny):
    config = tiny()
    run = run_of(config)
    refused = {
        "teacher.train.epochs=3": ("teacher", "teacher.train.epochs: 2 → 3"),
        "seed=1": ("teacher", "seed: 0 → 1"),
        "synthesis.iterations=6": ("synthesize", "synthesis.method.iterations: 5 → 6"),
        "synthesis.coefficients.rule=fixed": (
            "run",
            "synthesis.method.coefficients.rule: code → fixed",
        ),
        "training.gradrefine.tau=0.25": ("train", "training.gradrefine.tau: 0.5 → 0.25"),
        "threat.eps=0.2": ("run", "threat.eps: 0.1 → 0.2"),
    }
    before = contents(run)
    for override, (command, difference) in refused.items():
        line = call(command, config, override).refusal()
        assert difference in line
        assert "name=" in line
        assert contents(run) == before, override


def test_what_the_result_does_not_depend_on_may_change(tiny):
    config = tiny()
    before = made(run_of(config))
    succeed(
        "run",
        config,
        "training.checkpoint_every=7",
        "storage.part_size=20",
        "synthesis.num_holdout=20",
    )
    assert made(run_of(config)) == before


def test_a_stage_of_a_newer_format_is_refused_by_that_version(tiny):
    config = tiny()
    file = run_of(config) / "student" / "stage.json"
    edit_json(file, lambda record: record.update(format_version=2))
    line = call("train", config).refusal()
    assert str(file) in line
    assert "format version 2" in line


def test_a_manifest_of_a_newer_format_is_refused_by_that_version(tiny):
    config = tiny()
    edit_json(run_of(config) / "synthetic" / "manifest.json", lambda m: m.update(format_version=9))
    for command in (("synthesize", config), ("verify", run_of(config)), ("status", run_of(config))):
        assert "format 9" in call(*command).refusal()


def test_a_stage_record_that_is_no_json_is_refused_by_name(tiny):
    config = tiny()
    file = run_of(config) / "synthetic" / "stage.json"
    file.write_text("{")
    assert str(file) in call("synthesize", config).refusal()
    succeed("evaluate", config)  # which needs the student alone


def test_another_engine_is_refused_unless_replanned(tiny):
    config = tiny(keep=("teacher", "synthetic"))
    run = run_of(config)
    manifest = run / "synthetic" / "manifest.json"
    edit_json(manifest, lambda m: m["engine"].update(torch="1.13.0"))
    succeed("synthesize", config)  # nothing is left to make
    broken = next(iter(parts(run).values()))
    broken.unlink()
    before = contents(run / "synthetic")
    line = call("synthesize", config).refusal()
    assert "torch: 1.13.0 → " in line
    assert "--replan" in line
    assert contents(run / "synthetic") == before
    succeed("synthesize", config, "--replan")
    assert broken.exists()
    assert json.loads(manifest.read_text())["engine"]["torch"] != "1.13.0"


def test_training_takes_the_data_set_of_another_run(tiny):
    first, second = tiny(name="first"), tiny(keep=("teacher",), name="second")
    data = f"training.data={run_of(first) / 'synthetic'}"
    succeed("run", second, data)
    assert not parts(run_of(second))
    weights = "student/model.safetensors"
    assert (run_of(second) / weights).read_bytes() == (run_of(first) / weights).read_bytes()


def test_the_data_set_of_another_teacher_is_refused(tiny, tmp_path):
    first = tiny(name="first")
    second = tiny(keep=(), name="second", teacher__train__epochs=1)
    succeed("teacher", second)
    data = run_of(first) / "synthetic"
    line = call("train", second, f"training.data={data}").refusal()
    assert str(data) in line
    assert "another teacher" in line
    assert not (run_of(second) / "student").exists()
    nowhere = call("train", second, f"training.data={tmp_path / 'nowhere'}").refusal()
    assert "not a surrogate data set" in nowhere
