"""Wrong input through the command line: one line that names it, exit code 2, nothing begun."""

import shutil
import subprocess

import numpy as np
import pytest
import yaml
from tiny_run import (
    TINY,
    call,
    changed,
    contents,
    nothing_begun,
    parts,
    run_of,
    succeed,
)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"synthesis__batch_size": 30}, ["synthesis.batch_size", "30", "storage.part_size = 40"]),
        ({"training__gradrefine": {"num_batches": 5}}, ["training.gradrefine.num_batches", "4"]),
        ({"threat__eps": "eight"}, ["threat.eps", "'eight'", '"8/255"']),
        ({"threat__eps": 8}, ["threat.eps", "8", '"8/255"']),
        ({"threat__eps": -0.1}, ["threat.eps", "-0.1"]),
        ({"threat__eps": True}, ["threat.eps", "True"]),
        ({"threat__eps": [1]}, ["threat.eps", "[1]", "8/255"]),
        ({"threat": 5}, ["threat", "section of settings", "5"]),
        ({"training__lambda1": 1}, ["training.lambda1", "unknown key"]),
        ({"synthesis__iteration": 5}, ["synthesis.iteration", "'synthesis.method.iterations'"]),
        ({"sythesis": {}}, ["sythesis", "'synthesis'"]),
        ({"training__gradrefine": {"tua": 0.5}}, ["training.gradrefine.tua", "'tau'"]),
        ({"training__objective": {"name": "trades", "beat": 1}}, ["objective.beat", "'beta'"]),
        ({"training__objective": {"name": "dfme"}}, ["objective.name", "known are soft-label"]),
        ({"training__objective": {"name": "ard", "alpha": 2}}, ["objective.alpha", "2", "[0, 1]"]),
        (
            {"training__average": {"name": "ema", "decay": 1}},
            ["training.average.decay", "1", "above 0 and below 1"],
        ),
        (
            {"training__average": {"name": "swa", "start": 99}},
            ["training.average.start: 99 is after the last of"],
        ),
        (
            {"training__augmentations": ["flip", "cutout"]},
            ["training.augmentations.1.size: 8 leaves nothing of 8x8 images"],
        ),
        (
            {"training__augmentations": [{"name": "crop", "padding": 8}]},
            ["training.augmentations.0.padding: 8 leaves nothing of 8x8 images"],
        ),
        ({"training__augmentations": ["mixup"]}, ["training.augmentations.0.name", "'mixup'"]),
        (
            {"training__augmentations": [{"name": "flip", "probability": 2}]},
            ["training.augmentations.0.probability", "[0, 1]"],
        ),
        (
            {"training__augmentations": ["flip"], "training__inner": {"start": "kept"}},
            ["training", "inner.start: kept", "leave augmentations out"],
        ),
        (
            {"training__inner": {"num_steps": 3, "first_steps": 4}},
            ["training.inner", "first_steps: 4 are more than num_steps, 3"],
        ),
        ({"training__weight_perturbation": 0}, ["training.weight_perturbation", "0"]),
        ({"training__weight_perturbation": 0.2}, ["training.weight_perturbation", "0.1"]),
        ({"training__average": "emma"}, ["training.average.name", "'ema'"]),
        (
            {"training__schedule": {"name": "piecewise", "milestones": [0.9, 0.1]}},
            ["training.schedule.milestones", "rising"],
        ),
        ({"training__schedule": {"name": "cosine", "warmup": 2}}, ["training.schedule.warmup"]),
        ({"training__select": "best"}, ["training.select", "'best'"]),
        ({"preset": "paper/medicla"}, ["preset", "'paper/medical'"]),
        ({"name": "../elsewhere"}, ["name", "'../elsewhere'"]),
        ({"seeds": [0, 0]}, ["seeds", "different"]),
        ({"seed": 1, "seeds": [0, 1]}, ["seed", "seeds", "not both"]),
        ({"teacher__train__data": {"name": "digitz"}}, ["teacher.train.data", "'digits'"]),
        ({"teacher__options": {"widht": 8}}, ["teacher", "options.widht"]),
        ({"teacher__source": "dfshield:resnet9"}, ["teacher", "source", "resnet9"]),
        ({"teacher__source": "python:nowhere:make"}, ["teacher", "nowhere"]),
        ({"teacher__num_classes": 7}, ["teacher.num_classes: 7", "10 classes"]),
        ({"teacher__input_shape": [1, 9, 9]}, ["teacher.train.data", "8x8", "9x9"]),
        ({"teacher__weights": "w.pt"}, ["teacher", "either weights", "or train"]),
        ({"evaluation__attacks": [{"name": "pdg"}]}, ["evaluation.attacks.0", "'pdg'", "'pgd'"]),
        (
            {"evaluation__attacks": [{"name": "fgsm"}, {"name": "pgd", "num_stesp": 3}]},
            ["evaluation.attacks.1.num_stesp", "'num_steps'"],
        ),
        ({"evaluation__attacks": [{"name": "pgd", "eps": 8}]}, ["evaluation.attacks.0", "8/255"]),
        ({"evaluation__attacks": [{"num_steps": 3}]}, ["evaluation.attacks.0.name", "required"]),
        ({"storage__path": "$NO_SUCH_VARIABLE/x"}, ["storage.path", "NO_SUCH_VARIABLE"]),
        ({"storage__path": "nowhere://bucket"}, ["nowhere://bucket"]),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(fresh, monkeypatch, tmp_path, changes, named):
    monkeypatch.chdir(tmp_path)
    config, run = fresh(**changes)
    line = call("run", config).refusal()
    for word in named:
        assert word in line
    assert nothing_begun(run)


def test_a_section_left_out_is_named(fresh):
    tree = changed(TINY)
    del tree["teacher"]
    config, _ = fresh(tree)
    assert "teacher: this key is required" in call("run", config).refusal()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [tiny", "not valid YAML"),
        ("- name\n- tiny\n", "mapping of sections"),
        ("", "mapping of sections"),
        (b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, text, said):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = call("run", path).refusal()
    assert str(path) in line
    assert said in line


def test_a_missing_configuration_is_named(tmp_path):
    line = call("run", tmp_path / "nowhere.yaml").refusal()
    assert f"{tmp_path / 'nowhere.yaml'}: no such" in line
    assert str(tmp_path) in call("run", tmp_path).refusal()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("threat.eps", "key=value"),
        ("=3", "key=value"),
        ("threat.eps=[", "not valid YAML"),
        ("threat.esp=0.1", "did you mean 'eps'"),
    ],
)
def test_a_wrong_override_is_named(fresh, override, said):
    config, run = fresh()
    assert said in call("run", config, override).refusal()
    assert nothing_begun(run)


@pytest.mark.parametrize(
    ("images", "num_classes", "said"),
    [
        (np.full((20, 8, 8), 3.0, np.float32), 10, "[0, 1]"),
        (np.zeros((20, 9, 9), np.float32), 10, "9x9"),
        (np.zeros((20, 8, 8, 3), np.float32), 10, "3 channels"),
        (np.zeros((20, 8, 8), np.float32), 12, "12 classes"),
        (np.zeros((20, 8, 8), np.int64), 10, "int64"),
    ],
)
def test_real_images_that_do_not_fit_are_refused(tiny, tmp_path, images, num_classes, said):
    file = tmp_path / "real.npz"
    np.savez(file, images=images, labels=np.arange(20) % num_classes)
    config = tiny(evaluation__data={"name": "npz", "path": str(file)})
    results = contents(run_of(config))
    line = call("evaluate", config).refusal()
    assert said in line
    assert contents(run_of(config)) == results


def test_real_images_that_are_missing_are_named(tiny, tmp_path):
    config = tiny()
    npz = ("evaluation.data.name=npz", f"evaluation.data.path={tmp_path / 'nowhere.npz'}")
    line = call("evaluate", config, *npz).refusal()
    assert "evaluation.data" in line
    assert "nowhere.npz" in line
    assert "evaluation.data" in call("evaluate", config, npz[0]).refusal()  # no path
    assert "evaluation.data" in call("evaluate", config, "evaluation.data=null").refusal()


def test_stages_in_the_wrong_order_name_the_one_that_is_wanted(fresh, tiny):
    config, _ = fresh()
    assert "dfshield teacher" in call("synthesize", config).refusal()
    assert "dfshield teacher" in call("train", config).refusal()
    config = tiny(keep=("teacher",))
    assert "dfshield synthesize" in call("train", config).refusal()
    assert "dfshield train" in call("evaluate", config).refusal()
    assert "dfshield train" in call("report", config).refusal()


def test_an_unwritable_folder_is_named(fresh, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    config, _ = fresh(storage__path=str(small_disk))
    line = call("run", config).refusal()
    assert str(small_disk) in line
    assert "Read-only" in line
    assert not contents(small_disk)


def test_a_folder_below_a_file_is_named(fresh, tmp_path):
    (tmp_path / "file").write_text("")
    config, _ = fresh(storage__path=str(tmp_path / "file"))
    assert str(tmp_path / "file") in call("run", config).refusal()


def test_a_full_disk_stops_in_one_line_and_the_same_command_goes_on(tiny, small_disk):
    roomy = tiny(keep=("teacher",), synthesis__num_images=800, synthesis__iterations=1)
    tight = roomy.with_name("tight.yaml")
    tree = yaml.safe_load(roomy.read_text())
    tight.write_text(yaml.safe_dump(changed(tree, storage__path=str(small_disk))))
    run = small_disk / "tiny"
    shutil.copytree(run_of(roomy), run)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))

    line = call("synthesize", tight).refusal()
    assert str(run) in line
    assert "No space left" in line
    written = parts(run)
    assert not [name for name in contents(run) if "tmp" in name]
    assert len(written) < 21
    ballast.unlink()
    succeed("synthesize", tight)
    succeed("synthesize", roomy)
    for name, file in parts(run_of(roomy)).items():
        assert parts(run)[name].read_bytes() == file.read_bytes()
    assert "21 of 21 parts verify" in succeed("verify", run).out
