"""The surrogate images of a sweep: whose they are, made once, grown, and how hold-outs are made."""

import json

from tiny_run import call, contents, events, run_of, stamps, succeed, write_config
from tiny_sweep import SHORT, TAU, records, sweep_config, sweep_of


def test_a_sweep_over_an_existing_run_uses_its_data_set(tiny):
    config = tiny(sweep__parameters={TAU: {"grid": [0, 1]}})
    before = stamps(run_of(config) / "synthetic")
    student = contents(run_of(config) / "student")
    succeed("sweep", config)
    assert stamps(run_of(config) / "synthetic") == before
    assert contents(run_of(config) / "student") == student
    succeed("report", config)  # the run's own results are still its own


def test_num_images_grows_one_set_and_trials_take_its_first_images(tmp_path):
    config = sweep_config(tmp_path, sweep__parameters={"synthesis.num_images": {"grid": [40, 120]}})
    succeed("sweep", config)
    manifest = json.loads((run_of(config) / "synthetic" / "manifest.json").read_text())
    data = [part for part in manifest["parts"] if part["split"] == "data"]
    assert sum(part["num_images"] for part in data) == 120
    assert not (sweep_of(config) / "sets").exists()
    small = write_config(tmp_path / "small", synthesis__num_images=40)
    succeed("run", small)
    (trial,) = (sweep_of(config) / "trials").glob("num_images-40_*")
    model = "student/model.safetensors"
    assert (trial / model).read_bytes() == (run_of(small) / model).read_bytes()


def test_every_other_synthesis_is_made_once_with_the_same_teacher(tmp_path):
    axes = {"synthesis.iterations": {"grid": [5, 6]}}
    config = sweep_config(tmp_path, sweep__parameters=axes)
    succeed("sweep", config)
    sets = list((sweep_of(config) / "sets").iterdir())
    assert len(sets) == 1  # the other one is the run's own
    assert not (sets[0] / "teacher").exists()
    made = [*events(sets[0], "synthesis_started"), *events(run_of(config), "synthesis_started")]
    assert len(made) == 2
    assert len(records(config)) == 2


def test_trials_are_compared_on_holdouts_of_one_rule(tiny):
    axes = {"synthesis.iterations": {"grid": [5, 6]}}
    config = tiny(keep=("teacher",), sweep__parameters=axes)
    succeed("synthesize", config, "synthesis.method.holdout=alike")  # as an earlier release has it
    succeed("sweep", config)
    succeed("sweep", config, "sweep.parameters.synthesis.iterations={grid: [5, 6, 7]}")
    made = [run_of(config), *(sweep_of(config) / "sets").iterdir()]
    assert len(made) == 3
    for run in made:
        identity = json.loads((run / "synthetic" / "stage.json").read_text())["identity"]
        assert "holdout" not in identity["synthesis"]["method"]  # which means: alike


def test_a_reused_data_set_is_not_made_and_bounds_k(tiny, tmp_path):
    data = run_of(tiny()) / "synthetic"
    config = sweep_config(tmp_path / "other", training__data=str(data), sweep__parameters=SHORT)
    succeed("sweep", config)
    assert len(records(config)) == 2
    assert not (run_of(config) / "synthetic").exists()
    key = "training.gradrefine.num_batches"
    config = sweep_config(
        tmp_path / "third", training__data=str(data), sweep__parameters={key: {"grid": [2, 5]}}
    )
    assert "5 is more than the 4 mini-batches" in call("sweep", config).refusal()
    assert records(config) == {}
