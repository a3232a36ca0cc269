"""Several seeds in one run, the log of events, and results that are not measured twice."""

import json

import pytest
from tiny_run import call, contents, events, parts, run_of, stamps, succeed, write_config


def results_of(run):
    return {
        name: json.loads(c)
        for name, c in contents(run / "evaluation").items()
        if "/" not in name and name.endswith(".json")
    }


@pytest.mark.slow
def test_seeds_share_a_teacher_and_are_reported_together(tmp_path):
    config = write_config(tmp_path, seeds=[0, 1])
    run = run_of(config)
    answer = succeed("run", config, "--json")
    files = contents(run)
    assert "teacher/model.safetensors" in files
    for stage in ("synthetic/manifest.json", "student/model.safetensors"):
        first, second = files[f"seed-0/{stage}"], files[f"seed-1/{stage}"]
        assert first != second
    assert not {"synthetic/manifest.json", "student/model.safetensors"} & files.keys()
    results = json.loads(answer.out)["results"]
    students = [r for r in results if r["model"] == "student" and r["label"] == "PGD-3"]
    assert [r["seed"] for r in students] == [0, 1]
    assert "±" in succeed("run", config).out
    assert "±" in files["report/index.html"].decode()
    status = json.loads(succeed("status", run, "--json").out)
    assert [seed["seed"] for seed in status["seeds"]] == ["0", "1"]
    assert {seed["train"]["state"] for seed in status["seeds"]} == {"done"}
    assert len(json.loads(succeed("verify", run, "--json").out)) == 2


def test_a_seed_alone_gives_what_it_gives_among_several(tiny, tmp_path):
    alone = tiny(keep=("teacher",), name="alone")
    several = tiny(keep=("teacher",), name="several", seeds=[0, 5])
    for config in (alone, several):
        succeed("synthesize", config)
        succeed("train", config)
    of_several = contents(run_of(several) / "seed-0" / "student")
    assert contents(run_of(alone) / "student") == of_several
    assert of_several != contents(run_of(several) / "seed-5" / "student")


def test_events_tell_the_run_in_order(finished):
    told = [event["event"] for event in events(finished / "runs" / "tiny")]
    assert [event for event in told if event not in ("update", "checkpoint", "epoch")] == [
        "teacher_training_started",
        "teacher",
        "synthesis_started",
        "canary_made",
        *["unit_started", "unit_done", "part_committed"] * 3,
        "synthesis_done",
        "training_started",
        "training_done",
        *["unit_started", "unit_done", "evaluated"] * 4,
        "report",
    ]
    times = [event["time"] for event in events(finished / "runs" / "tiny")]
    assert times == sorted(times)
    updates = events(finished / "runs" / "tiny", "update")
    assert [(u["epoch"], u["update"]) for u in updates] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(0 < u["agreement_rate"] < 1 for u in updates)
    assert len(events(finished / "runs" / "tiny", "epoch")) == 2


def test_a_torn_last_event_is_passed_over(tiny):
    config = tiny()
    log = run_of(config) / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    whole = len(log.read_text().splitlines()) - 1
    status = json.loads(succeed("status", run_of(config), "--json").out)
    assert status["last_event"]["event"] == "evaluated"
    succeed("report", config)
    lines = log.read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "report"  # on a line of its own
    assert len(lines) == whole + 2


def test_slices_that_were_measured_are_not_measured_again(tiny):
    config = tiny(keep=("teacher", "synthetic", "student"), evaluation__slice_size=10)
    run = run_of(config)
    succeed("evaluate", config)
    before = results_of(run)
    student = "student-pgd-3"
    (name,) = [name for name in before if name.startswith(student)]
    slices = run / "evaluation" / "slices" / name.removesuffix(".json")
    assert sorted(p.name for p in slices.iterdir()) == [f"{i:05d}.json" for i in range(4)]
    whole = stamps(run / "evaluation")
    # What a kill in the middle leaves: some slices, no result.
    (run / "evaluation" / name).unlink()
    (slices / "00001.json").unlink()

    succeed("evaluate", config)
    anew = {n for n, stamp in stamps(run / "evaluation").items() if whole.get(n) != stamp}
    rows = f"{slices.name}.parquet"
    assert anew == {name, rows, f"slices/{slices.name}/00001.json"}
    after = results_of(run)
    assert {**after[name], "seconds": 0} == {**before[name], "seconds": 0}


def test_another_attack_is_measured_beside_the_others(tiny):
    config = tiny()
    run = run_of(config)
    before = stamps(run / "evaluation")
    attacks = "evaluation.attacks=[{name: pgd, num_steps: 3}, {name: fgsm}]"
    succeed("evaluate", config, attacks)
    after = stamps(run / "evaluation")
    index = before.pop("index.txt")
    assert after["index.txt"] != index  # what the report is to show
    assert before.items() < after.items()
    new = {name for name in after.keys() - before.keys() if "-" in name and "/" not in name}
    # For teacher and student: the result and its rows, of FGSM and of both attacks together.
    assert sorted(name.split("-")[1] for name in new) == ["fgsm"] * 4 + ["worst"] * 4


def test_the_report_shows_the_last_evaluation_alone(tiny):
    config = tiny()
    succeed("evaluate", config, "evaluation.data.split=val", "evaluation.num_images=30")
    succeed("report", config)
    page = (run_of(config) / "report" / "index.html").read_text()
    assert "30 real images of digits (val split)" in page
    assert "2 seeds" not in page
    succeed("evaluate", config, "evaluation.num_images=100000")
    succeed("report", config)
    assert (
        "500 real images of digits (test split)"
        in (run_of(config) / "report" / "index.html").read_text()
    )


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_no_figure_is_told_of_settings_that_did_not_make_it(tiny, command):
    config = tiny()
    before = contents(run_of(config))
    for override, key in (
        ("training.gradrefine.tau=0.9", "training.gradrefine.tau: 0.5 → 0.9"),
        ("synthesis.iterations=6", "surrogate.synthesis.method.iterations: 5 → 6"),
        ("teacher.mean=[0.1]", "teacher.mean"),
        ("seed=5", "seed: 0 → 5"),
        ("threat.eps=0.2", "threat.eps: 0.1 → 0.2"),
    ):
        assert key in call(command, config, override).refusal()
    assert contents(run_of(config)) == before


def test_a_lost_student_is_made_again(tiny):
    config = tiny()
    weights = run_of(config) / "student" / "model.safetensors"
    before = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(b"junk")):
        damage()
        assert "it is made again" in succeed("run", config).err
        assert weights.read_bytes() == before


def test_the_result_does_not_depend_on_who_measured_which_slice(tiny):
    """Each slice draws from a seed of its own, in whatever order the slices are measured."""
    config = tiny(keep=("teacher", "synthetic", "student"), evaluation__slice_size=10)
    run = run_of(config)
    succeed("evaluate", config)
    before = results_of(run)
    for file in (run / "evaluation").glob("*.json"):
        file.unlink()
    for file in (run / "evaluation" / "slices").glob("*/0000[02].json"):
        file.unlink()  # 0 and 2 are now measured after 1 and 3
    succeed("evaluate", config)
    after = results_of(run)
    assert before.keys() == after.keys()
    for name, result in before.items():
        assert {**result, "seconds": 0} == {**after[name], "seconds": 0}


def test_parts_made_alone_equal_parts_made_in_turn(tiny):
    config = tiny()
    run = run_of(config)
    before = {name: file.read_bytes() for name, file in parts(run).items()}
    for name in ("data/shard=00000/part-0000.parquet", "holdout/part-0000.parquet"):
        parts(run)[name].unlink()
    succeed("synthesize", config)
    assert {name: file.read_bytes() for name, file in parts(run).items()} == before
