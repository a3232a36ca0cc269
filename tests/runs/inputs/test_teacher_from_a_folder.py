"""A run whose teacher is in the folder of a run, or was saved on its own."""

import json
import shutil

import pytest
from tiny_run import TINY, call, hardening, run_of, stamps, succeed, write_config

from dfshield.classifiers import load

DIGITS = ("--data", "digits")


def test_a_teacher_from_a_folder_is_known_by_its_content(run, tmp_path):
    source = tmp_path / "mine"
    shutil.copytree(run / "teacher", source)
    config = hardening(tmp_path / "again", source)
    answer = succeed("teacher", config)
    assert "matched by their order" not in answer.err
    made = run_of(config)
    before = stamps(made / "teacher")
    identity = json.loads((made / "teacher/stage.json").read_text())["identity"]
    fingerprint = load(source).fingerprint()
    assert identity == {"teacher": {"source": "dfshield:resnet8", "fingerprint": fingerprint}}
    source.rename(tmp_path / "moved")
    succeed("teacher", config)  # it has served its purpose
    by_weights = {"source": "dfshield:resnet8", "weights": str(tmp_path / "moved")}
    config = write_config(tmp_path / "again", teacher=by_weights)
    succeed("teacher", config)
    (tmp_path / "moved").rename(source)
    succeed("teacher", config)
    line = call("teacher", config, "teacher.source=dfshield:resnet20").refusal()
    assert "teacher.source: dfshield:resnet8 → dfshield:resnet20" in line
    assert stamps(made / "teacher") == before
    shutil.copytree(run / "student", source, dirs_exist_ok=True)  # another model, the same path
    line = call("teacher", hardening(tmp_path / "again", source)).refusal()
    assert f"teacher.fingerprint: {fingerprint} → " in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_shape", [3, 8, 8]),
        ("num_classes", 7),
        ("class_names", list("abcdefghij")),
        ("mean", [0.4]),
        ("std", [0.25, 0.25]),
        ("options", {"width": 16}),
    ],
)
def test_what_contradicts_the_folder_is_one_line(run, tmp_path, key, value):
    for named in (
        {"source": "runs/tiny/student"},
        {"source": "dfshield:resnet8", "weights": "runs/tiny/student"},
    ):
        config = write_config(tmp_path / "again", teacher={**named, key: value})
        line = call("run", config).refusal()
        assert f"teacher: {key}: {value} contradicts {run}/student, which was saved with" in line
    assert not (tmp_path / "again/runs/tiny/teacher").exists()


def test_what_agrees_with_the_folder_is_taken(run, tmp_path):
    saved = load(run / "student").architecture
    teacher = {
        "source": "runs/tiny/student",
        "options": {"width": 8},
        "input_shape": [1, 8, 8],
        "num_classes": 10,
        "class_names": list(saved.class_names),
        "mean": [0.5],
        "std": [0.5],
    }
    config = write_config(tmp_path / "again", teacher=teacher)
    succeed("teacher", config)
    config = hardening(tmp_path / "again", "runs/tiny")
    succeed("teacher", config)
    line = call("teacher", config, "teacher.source=medmnist:resnet18", "teacher.weights=runs/tiny")
    assert "source: medmnist:resnet18 contradicts the weights in" in line.refusal()
    assert "mean: [0.1] contradicts" in call("teacher", config, "teacher.mean=[0.1]").refusal()
    line = call(
        "evaluate", "--model", "runs/tiny", *DIGITS, "teacher.mean=[0.1]", "teacher.std=[1]"
    )
    assert "mean: [0.1] contradicts" in line.refusal()


def test_a_folder_brings_its_own_weights(run, tmp_path):
    config = hardening(tmp_path / "again", "runs/tiny")
    line = call("run", config, "teacher.weights=runs/tiny/student/model.safetensors").refusal()
    assert "leave weights and train out" in line
    line = call("run", config, f"teacher.train={json.dumps(TINY['teacher']['train'])}").refusal()
    assert "leave weights and train out" in line
    line = call("evaluate", "--model", "runs/tiny", "--weights", "x.pth", *DIGITS).refusal()
    assert "leave weights and train out" in line


def test_a_student_is_hardened_again(run, tmp_path):
    config = hardening(tmp_path / "again", "runs/tiny")
    succeed("run", config)
    card = (run_of(config) / "student/README.md").read_text()
    assert load(run / "student").fingerprint() in card
    assert "trust_python" not in card.partition("```python")[2].partition("```")[0]


def test_a_sweep_takes_a_folder_by_its_content(run, tmp_path):
    axis = {"training.gradrefine.tau": {"grid": [0.5]}}
    config = hardening(tmp_path / "again", "runs/tiny", sweep={"parameters": axis})
    succeed("sweep", config)
    succeed("sweep", hardening(tmp_path / "again", run / "student/", sweep={"parameters": axis}))
