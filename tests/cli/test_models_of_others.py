"""Audit and evaluation of a run's student, and of a model that no run has made."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_run import call, ended, run_of, start, succeed

FACTORY = """
import torch
from sklearn.datasets import load_digits
from torch import nn


def make(scale=1.0):
    digits = load_digits()
    x = torch.from_numpy(digits.images).float().flatten(1) / 16
    y = torch.from_numpy(digits.target)
    centres = torch.stack([x[y == label].mean(0) for label in range(10)])
    layer = nn.Linear(64, 10)
    layer.weight.data = 2 * scale * centres
    layer.bias.data = -scale * (centres**2).sum(1)
    return nn.Sequential(nn.Flatten(), layer)


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.2 * torch.randn_like(x)


def make_noisy():
    return nn.Sequential(Noise(), make())
"""
QUICK = ("audit.autoattack=false", "evaluation.attacks=[{name: pgd, num_steps: 3}, {name: fgsm}]")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Run in a folder that holds a factory of nearest-centre classifiers."""
    (tmp_path / "centres.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return ["--model", "python:centres:make", "--data", "digits", "--eps", "0.1"]


def test_a_model_of_somebody_else_is_audited(own, tmp_path):
    answer = succeed("audit", *own, "--num-images", 60, "--out", "here/mine", *QUICK)
    assert "No line fails" in answer.out
    assert "not run" in answer.out
    (page,) = Path("here/mine/audit").glob("*.html")
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["model"] == "mine"
    assert report["data"]["sampled_from"] == 500
    pictures = {path.name.rpartition("-")[2] for path in page.parent.glob("*.png")}
    assert pictures == {"landscape.png", "curves.png"}
    before = page.stat().st_mtime_ns
    again = succeed("audit", *own, "--num-images", 60, "--out", "here/mine", *QUICK, "--json")
    assert json.loads(again.out) == [report]
    assert page.stat().st_mtime_ns == before


def test_a_randomised_model_is_said_to_be_and_meets_autoattack_with_many_draws(own):
    noisy = ["--model", "python:centres:make_noisy", *own[2:], "--num-images", 10]
    square = "{name: autoattack, version: custom, attacks: [square], queries: 5}"
    attacks = f"evaluation.attacks=[{{name: autoattack}}, {square}]"
    answer = succeed("evaluate", *noisy, attacks, "--json")
    results = json.loads(answer.out)["results"]
    assert [r["label"] for r in results[:3]] == [
        "clean",
        "AutoAttack (rand)",
        "AutoAttack (square)",
    ]
    assert all(r["randomised"] for r in results)
    assert "randomised" in succeed("evaluate", *noisy, attacks).out


def test_a_line_that_fails_gives_another_exit_code(own):
    answer = call("audit", *own, "--num-images", 40, *QUICK, "teacher.options.scale=100000")
    assert answer.code == 3
    assert "cannot be believed" in answer.out
    assert Path("evaluations/make/audit").is_dir()


def test_a_model_of_somebody_else_is_evaluated(own):
    value = json.loads(succeed("evaluate", *own, "--num-images", 50, *QUICK, "--json").out)
    labels = [result["label"] for result in value["results"]]
    assert labels == ["clean", "PGD-3", "FGSM", "Worst of 2 attacks"]
    clean, pgd, fgsm, worst = value["results"]
    assert clean["accuracy"] > 0.8
    assert worst["num_correct"] <= min(pgd["num_correct"], fgsm["num_correct"])
    assert clean["data"]["sampled_from"] == 500
    folder = Path("evaluations/make/evaluation")
    (rows,) = folder.glob("make-worst-case-*.parquet")
    table = pq.read_table(rows)
    assert table.num_rows == 50
    standing = sum(by == "" for by in table["broken_by"].to_pylist())
    assert standing == worst["num_correct"]
    assert set(table["broken_by"].to_pylist()) <= {"", "clean", "PGD-3", "FGSM"}
    shown = succeed("evaluate", *own, "--num-images", 50, *QUICK).out
    assert f"{worst['accuracy']:.1%}" in shown


@pytest.mark.drill
def test_a_run_is_audited_with_its_teacher_as_surrogate(tiny):
    config = tiny()
    answer = ended(start("audit", config, "audit.num_images=30", *QUICK[:1], "--json"))
    assert answer.code in (0, 3), answer
    (report,) = json.loads(answer.out)
    assert report["model"] == "student"
    verdicts = {check["key"]: check["verdict"] for check in report["checks"]}
    assert verdicts["transfer"] != "not run"
    assert verdicts["autoattack-gap"] == "not run"
    assert len(list((run_of(config) / "audit").glob("student-*"))) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "digits"], "CONFIG: name a YAML file"),
        (["--model", "python:centres:make"], "--data: is missing"),
        (["--model", "python:centres:make", "--data", "digitz"], "--data: 'digitz' is no data set"),
        (["--model", "python:centres:made", "--data", "digits"], "nothing to call named 'made'"),
        (["--model", "dfshield:resnet8", "--data", "digits"], "--weights: is missing"),
        (["--model", "x", "--weights", "x.pth", "--data", "digits"], "family:name"),
        (["a.yaml", "--eps", "0.1"], "--eps: goes with --model"),
        (["a.yaml", "--model", "python:centres:make", "--data", "digits"], "only KEY=VALUE"),
        (["--model", "python:centres:make", "--data", "digits", "--eps", "8"], "8/255"),
        (["--model", "python:centres:make", "--data", "digits", "--norm", "l1"], "threat.norm"),
    ],
)
@pytest.mark.parametrize("command", ["audit", "evaluate"])
def test_what_is_wrong_is_said_in_one_line(own, command, arguments, said):
    assert said in call(command, *arguments).refusal()


@pytest.mark.parametrize(
    ("out", "folder", "name"),
    [
        ("my results", "my results", "my-results"),
        ("Größe 3/ünd", "Größe 3/ünd", "nd"),
        ("deep/er/", "deep/er", "er"),
        ("./.hidden", ".hidden", "hidden"),
        ("2026-01-31", "2026-01-31", "2026-01-31"),
        ("007", "007", "007"),
    ],
)
def test_the_folder_is_the_one_given(own, out, folder, name):
    answer = succeed("evaluate", *own, "--num-images", 20, "--out", out, *QUICK, "--json")
    (*_, result) = json.loads(answer.out)["results"]
    assert result["model"] == name
    assert (Path(folder) / "evaluation").is_dir()
    assert not Path("evaluations").exists()


def test_a_file_in_its_place_is_one_line(own, tmp_path):
    (tmp_path / "taken").write_text("mine")
    line = call("evaluate", *own, "--num-images", 20, "--out", "taken", *QUICK).refusal()
    assert line == "Error: --out: taken is a file: name a folder for the results"
    assert (tmp_path / "taken").read_text() == "mine"
