"""Test-time defences in a run: the teacher behind each is measured beside teacher and student."""

import json
import re

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from tiny_run import call, contents, events, run_of, stamps, succeed

from dfshield.attacks import PGD
from dfshield.config import config_from
from dfshield.datasets import load_images
from dfshield.defences import (
    DEFENCES,
    TTE,
    Defence,
    adapt_detector,
    train_detector,
    train_score,
)
from dfshield.errors import InputError
from dfshield.evaluation import evaluate
from dfshield.runs.inputs.classifier_folder import load

WITH_TTE = "evaluation.defences=[{name: tte}]"
BESIDE = ("teacher", "student", "teacher+tte")


def results(answer):
    return {(r["model"], r["label"]): r for r in json.loads(answer.out)["results"]}


@pytest.fixture
def digits():
    return load_images("digits").stratified(40, seed=0)


def test_the_defended_teacher_is_measured_beside_the_others(tiny, digits):
    config = tiny()
    run, folder = run_of(config), run_of(config) / "evaluation"
    before = stamps(folder)
    found = results(succeed("evaluate", config, WITH_TTE, "--json"))
    assert list(found) == [(m, label) for label in ("clean", "PGD-3") for m in BESIDE]
    # Of teacher and student nothing is measured again, and no file has another name.
    after = stamps(folder)
    assert {name: after[name] for name in before if name != "index.txt"} == {
        name: stamp for name, stamp in before.items() if name != "index.txt"
    }
    assert {name.split("/")[-1].split("-")[0] for name in after.keys() - before.keys()} <= {
        "teacher+tte",
        "00000.json",
    }
    for (model, _), result in found.items():
        described = {"name": "tte", "padding": 4, "seed": 0, "compat": "corrected"}
        assert result["defence"] == (described if model == "teacher+tte" else None)
        assert result["num_images"] == 40
    # It is what the library measures of the teacher behind the defence.
    defended = TTE().wrap(load(run / "teacher"))
    for label, attack in (("clean", None), ("PGD-3", PGD(eps=0.1, num_steps=3))):
        ours = found["teacher+tte", label]
        theirs = evaluate(defended, digits, attack, slice_size=ours["slice_size"])
        assert ours["num_correct"] == theirs.num_correct
        assert ours["prediction_histogram"] == list(theirs.prediction_histogram)
    assert found["teacher+tte", "clean"] != found["teacher", "clean"]
    (rows,) = folder.glob("teacher+tte-pgd-3-*.parquet")
    assert pq.read_table(rows).num_rows == 40


def test_a_second_time_nothing_is_measured(tiny):
    config = tiny()
    succeed("evaluate", config, WITH_TTE)
    before, happened = stamps(run_of(config) / "evaluation"), events(run_of(config), "evaluated")
    succeed("evaluate", config, WITH_TTE)
    assert stamps(run_of(config) / "evaluation") == before
    assert events(run_of(config), "evaluated") == happened
    # A slice that is lost is measured again, with the same result.
    (result,) = (run_of(config) / "evaluation").glob("teacher+tte-clean-*.json")
    counted = json.loads(result.read_text())["num_correct"]
    result.unlink()
    next((run_of(config) / "evaluation" / "slices" / result.stem).glob("*.json")).unlink()
    succeed("evaluate", config, WITH_TTE)
    assert json.loads(result.read_text())["num_correct"] == counted


def test_status_page_card_and_table_show_it(tiny):
    config = tiny()
    table = succeed("evaluate", config, WITH_TTE).out
    assert "Teacher+tte" in table
    succeed("report", config, WITH_TTE)
    run = run_of(config)
    state = json.loads(succeed("status", run, "--json").out)
    measured = {(r["model"], r["label"]) for r in state["seeds"][0]["evaluate"]}
    assert {("teacher+tte", "clean"), ("teacher+tte", "PGD-3")} < measured
    assert "teacher+tte, PGD-3" in succeed("status", run).out
    page = (run / "report" / "index.html").read_text()
    assert '<th scope="col">Teacher+tte</th>' in page
    told = " ".join(re.sub(r"<[^>]+>", "", page).split())
    assert "Teacher+tte is the model behind the test-time defence tte (padding 4, seed 0" in told
    (result,) = (run / "evaluation").glob("teacher+tte-pgd-3-*.json")
    accuracy = json.loads(result.read_text())["accuracy"]
    assert f"{100 * accuracy:.1f}" in page
    card = (run / "student" / "README.md").read_text()
    assert "| attack | teacher | student | teacher+tte | floor |" in card
    # Without it, page and card are as they were.
    succeed("evaluate", config)
    succeed("report", config)
    for shown in (run / "report" / "index.html", run / "student" / "README.md"):
        assert "+tte" not in shown.read_text()


def test_it_has_worst_cases_and_transferred_images_are_those_of_the_bare_teacher(tiny):
    config = tiny(evaluation__attacks=[{"name": "pgd", "num_steps": 3}, {"name": "transfer"}])
    found = results(succeed("evaluate", config, WITH_TTE, "--json"))
    bare = found["teacher", "clean"]["model_fingerprint"]
    assert found["teacher+tte", "Transfer (PGD-20)"]["attack"]["source"] == bare
    worst = found["teacher+tte", "Worst of 2 attacks"]
    assert worst["defence"]["name"] == "tte"
    both = [found["teacher+tte", label]["num_correct"] for label in ("PGD-3", "Transfer (PGD-20)")]
    assert worst["num_correct"] <= min(both)
    # The attack through the defence is adaptive, and with it the worst case; the other is not.
    assert (found["teacher+tte", "PGD-3"]["adaptive"], worst["adaptive"]) == (True, True)
    assert found["teacher+tte", "Transfer (PGD-20)"]["adaptive"] is False
    assert found["teacher+tte", "clean"]["adaptive"] is None
    assert worst["adaptive_how"] == "gradient through the defence"
    succeed("report", config, WITH_TTE)
    page = (run_of(config) / "report" / "index.html").read_text()
    assert "PGD-3 is adaptive: gradient through the defence." in page
    assert "Transfer (PGD-20) is not adaptive: transfer: images made on the model" in page
    assert "not adaptive</span> the attack does not know of the test-time defence" in page


def test_several_defences_are_told_apart_by_their_options(tiny):
    config = tiny(
        evaluation__attacks=[{"name": "fgsm"}],
        evaluation__models=["student"],
        evaluation__defences=["tte", {"name": "tte", "compat": "official", "padding": 2}],
    )
    models = {model for model, _ in results(succeed("evaluate", config, "--json"))}
    assert models == {"student", "teacher+tte", "teacher+tte-padding-2-compat-official"}


def test_any_model_is_measured_behind_them(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = run_of(tiny()) / "student"
    options = ("--model", student, "--data", "digits", "--num-images", "20", "--defence", "tte")
    attack = "evaluation.attacks=[{name: fgsm}]"
    found = results(succeed("evaluate", *options, attack, "--json"))
    assert len(found) == 4
    assert len({model for model, _ in found if model.endswith("-student+tte")}) == 1
    line = call("evaluate", *options[:-1], "tet").refusal()
    assert "evaluation.defences.0.name: defence 'tet' is unknown" in line
    line = call("audit", *options[:-1], "{name: tte, padding: 8}").refusal()
    assert "audit.defence.padding: 8 is too much for images of 8x8" in line


@pytest.mark.drill
def test_any_model_is_audited_behind_them(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--model", run_of(tiny()) / "student", "--data", "digits", "--num-images", "10")
    only = ("audit.autoattack=false", "evaluation.attacks=[{name: transfer}]")
    (report,) = json.loads(call("audit", *options, "--defence", "tte", *only, "--json").out)
    assert report["model"].endswith("-student+tte")
    verdicts = {check["key"]: check["verdict"] for check in report["checks"]}
    assert [verdicts[key] for key in ("defence-draws", "defence-gradient")] == ["pass", "fail"]


def test_dad_says_its_leak_and_goes_by_the_contents_of_its_detector(tiny, tmp_path):
    logits = torch.rand(40, 10, generator=torch.Generator().manual_seed(0))
    detector = train_detector(3 * logits, 9 * logits, epochs=2)
    adapted = adapt_detector(detector, 6 * logits, epochs=1)
    file = tmp_path / "detector.safetensors"
    save_file(adapted.state_dict(), file)
    config = tiny(evaluation__attacks=[{"name": "fgsm"}], evaluation__models=["student"])

    def found(detector):
        wanted = f"evaluation.defences=[{{name: dad, detector: '{detector}'}}]"
        answer = results(succeed("evaluate", config, wanted, "--json"))
        succeed("report", config, wanted)
        return {key: result for key, result in answer.items() if "+dad" in key[0]}

    first = found(file)
    ((name, _), clean), (_, attacked) = first.items()
    assert re.fullmatch(r"teacher\+dad-detector-[0-9a-f]{16}", name)
    assert clean["defence"]["detector"] == name[-16:]
    assert any("the test set leaks into the defence" in note for note in clean["notes"])
    assert any("BPDA" in note for note in attacked["notes"])
    page = (run_of(config) / "report" / "index.html").read_text()
    card = (run_of(config) / "student" / "README.md").read_text()
    assert "the test set leaks into the defence" in page
    assert f"{name}: test data in the defence" in card
    assert "test data in the defence" in page
    assert (clean["defence"]["leaks"], attacked["defence"]["leaks"]) == (True, True)
    before = events(run_of(config), "evaluated")
    assert found(file.rename(tmp_path / "moved.safetensors")) == first
    assert events(run_of(config), "evaluated") == before
    save_file(detector.state_dict(), file)
    others = found(file)
    assert others.keys().isdisjoint(first)
    assert not any("leaks" in result["defence"] for result in others.values())
    line = call("evaluate", config, f"evaluation.defences=[{{name: dad, detector: {tmp_path}}}]")
    assert "evaluation.defences.0.detector: " in line.refusal()


def test_diffpure_draws_and_so_meets_attacks_over_its_draws(tiny, tmp_path):
    x, _ = load_images("digits", split="train").tensors()
    file = tmp_path / "score.safetensors"
    save_file(train_score(x[:64], width=4, epochs=1).state_dict(), file)
    config = tiny(evaluation__num_images=6, evaluation__models=["student"])
    wanted = f"evaluation.defences=[{{name: diffpure, score: '{file}', t: 0.02, step: 0.01}}]"
    found = results(succeed("evaluate", config, wanted, "--json"))
    (name,) = {model for model, _ in found} - {"student"}
    assert name.startswith("teacher+diffpure-")
    assert re.search(r"score-[0-9a-f]{16}", name)
    attacked = found[name, "PGD-3 (EOT 20)"]
    assert attacked["randomised"] is True
    assert attacked["adaptive"] is True
    assert attacked["adaptive_how"] == "EOT over 20 draws, gradient through the defence"
    assert ("student", "PGD-3") in found


class Echo(Defence):
    """Answers as the model does; its gradient, it says, is not its own, and it draws numbers."""

    name = "echo"
    randomised = True
    differentiable = False

    def __init__(self, *, loudness: float = 1.0) -> None:
        self.loudness = loudness

    def around(self, model):
        return model


def test_a_new_defence_is_one_class_and_how_it_must_be_attacked_is_kept_to(tiny, monkeypatch):
    attacks = [{"name": "autoattack"}, {"name": "square", "queries": 5}]
    config = tiny(
        evaluation__attacks=attacks,
        evaluation__num_images=10,
        evaluation__defences=[{"name": "echo", "loudness": 2.0}],
    )
    monkeypatch.setitem(DEFENCES._variants, "echo", Echo)
    assert DEFENCES.listing()["echo"]["options"]["loudness"]["default"] == 1.0
    found = results(succeed("evaluate", config, "--json"))
    model = "teacher+echo-loudness-2.0"
    assert (model, "AutoAttack (rand)") in found
    assert ("teacher", "AutoAttack") in found
    said = "the gradient through echo is not that of what it computes"
    assert any(said in note for note in found[model, "AutoAttack (rand)"]["notes"])
    assert not any(said in note for note in found[model, "Square"]["notes"])
    # It draws, and nothing stands in for its gradient: neither attack is adaptive, and all say so.
    assert found[model, "AutoAttack (rand)"]["adaptive"] is False
    assert "EOT over 20 draws" in found[model, "AutoAttack (rand)"]["adaptive_how"]
    assert found[model, "Worst of 2 attacks"]["adaptive"] is False
    assert found["teacher", "AutoAttack"]["adaptive"] is None
    succeed("report", config)
    assert said in (run_of(config) / "report" / "index.html").read_text()


MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


@pytest.mark.parametrize(
    ("defences", "said"),
    [
        (["tet"], "defences.0.name: defence 'tet' is unknown: did you mean 'tte'?"),
        (
            ["tte", {"name": "tte", "pading": 2}],
            "defences.1.pading: is no option of tte: did you mean 'padding'?",
        ),
        ([{"name": "tte", "padding": 0}], "defences.0.padding: 0 must be a whole number"),
        ([{"padding": 2}], "defences.0.name: this key is required"),
        ([{"name": "tte", "seed": 0}, "tte"], "defences.1: tte stands there twice"),
        ("tte", "defences: a list was expected"),
    ],
)
def test_what_is_wrong_is_named_by_its_whole_path(defences, said):
    with pytest.raises(InputError) as caught:
        config_from({**MINIMAL, "evaluation": {"defences": defences}})
    message = str(caught.value).replace("evaluation: defences", "evaluation.defences")
    assert message.startswith(f"config: evaluation.{said}")
    assert "\n" not in message


def test_a_defence_that_cannot_take_the_images_is_refused_before_any_measurement(tiny):
    config = tiny(evaluation__defences=["tte", {"name": "tte", "padding": 8}])
    before = contents(run_of(config) / "evaluation")
    line = call("evaluate", config).refusal()
    assert "evaluation.defences.1.padding: 8 is too much for images of 8x8" in line
    assert contents(run_of(config) / "evaluation") == before
