"""What an evaluation leaves behind: rows, adversarial images, the worst case."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import run_of, stamps, succeed

import dfshield
from dfshield.datasets import load_images

TWO = "evaluation.attacks=[{name: pgd, num_steps: 3}, {name: fgsm}, {name: transfer, num_steps: 2}]"
SLICED = ("evaluation.slice_size=15", "evaluation.keep_adversarial=true", TWO)


@pytest.fixture
def measured(tiny):
    """A run evaluated in three slices, with its adversarial images."""
    config = tiny()
    results = json.loads(succeed("evaluate", config, *SLICED, "--json").out)["results"]
    return config, run_of(config) / "evaluation", results


def test_adversarial_images_of_all_slices_are_kept_and_are_what_was_scored(measured):
    config, folder, results = measured
    (result,) = [r for r in results if (r["model"], r["label"]) == ("student", "PGD-3")]
    (slices,) = [
        p
        for p in (folder / "slices").glob("student-pgd-3-*")
        if p.is_dir() and len(list(p.glob("*.safetensors"))) == 3
    ]
    files = sorted(slices.glob("*.safetensors"))
    x_adv = torch.cat([load_file(file)["images"] for file in files])
    x, y = load_images("digits").stratified(40, seed=0).tensors()
    assert float((x_adv - x).abs().max()) <= 0.1 + 1e-6
    student = dfshield.load(run_of(config) / "student")
    with torch.no_grad():
        right = (student(x_adv).argmax(1) == y) & (student(x).argmax(1) == y)
    assert int(right.sum()) == result["num_correct"]


def test_a_slice_that_is_lost_is_measured_again_and_nothing_else(measured):
    config, folder, results = measured
    before = stamps(folder)
    succeed("evaluate", config, *SLICED)
    assert stamps(folder) == before
    victim = next((folder / "slices").glob("student-fgsm-*/00001.safetensors"))
    content = victim.read_bytes()
    victim.unlink()
    again = json.loads(succeed("evaluate", config, *SLICED, "--json").out)["results"]
    assert victim.read_bytes() == content
    changed = {name for name, stamp in stamps(folder).items() if before[name] != stamp}
    name = victim.parent.name
    assert changed == {
        f"slices/{name}/00001.safetensors",
        f"slices/{name}/00001.json",
        f"{name}.json",
        f"{name}.parquet",
    }
    assert [r["num_correct"] for r in again] == [r["num_correct"] for r in results]


def test_rows_carry_the_places_of_the_sample_in_the_split(measured):
    _, folder, results = measured
    (file,) = folder.glob("teacher-worst-case-*.parquet")
    rows = pq.read_table(file)
    whole = load_images("digits")
    assert whole.labels[rows["index"].to_numpy()].tolist() == rows["label"].to_pylist()
    (worst,) = [r for r in results if (r["model"], r["label"][:5]) == ("teacher", "Worst")]
    assert worst["label"] == "Worst of 3 attacks"
    assert worst["attack"]["attacks"] == "PGD-3, FGSM, Transfer (PGD-2)"
    assert worst["data"]["sampled_from"] == len(whole)
    assert worst["data"]["sample_seed"] == 0


def test_an_attack_with_a_model_of_its_own_is_told_apart(measured):
    _, _, results = measured
    transfers = [r for r in results if r["label"].startswith("Transfer")]
    sources = {r["model"]: r["attack"]["source"] for r in transfers}
    prints = {r["model"]: r["model_fingerprint"] for r in transfers}
    assert sources == {"student": prints["teacher"], "teacher": prints["student"]}


def test_a_slice_of_another_engine_is_kept_and_the_result_says_so(measured):
    config, folder, results = measured
    assert not [note for r in results for note in r["notes"] if "several engines" in note]
    victim = next((folder / "slices").glob("student-fgsm-*/00001.safetensors"))
    other = victim.with_name("00000.json")
    record = json.loads(other.read_text())
    assert record["engine"]["device"] == "cpu"
    other.write_text(json.dumps({**record, "engine": {**record["engine"], "torch": "1.13.0"}}))
    victim.unlink()
    again = json.loads(succeed("evaluate", config, *SLICED, "--json").out)["results"]
    (result,) = [r for r in again if (r["model"], r["label"]) == ("student", "FGSM")]
    (note,) = [note for note in result["notes"] if "several engines" in note]
    assert "torch: 1.13.0, " in note
    assert json.loads(other.read_text())["engine"]["torch"] == "1.13.0"
