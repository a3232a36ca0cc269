"""Corruptions in a run: measured beside the attacks, kept, shown, and not measured twice."""

import json

import pytest
from tiny_run import call, events, run_of, stamps, succeed

from dfshield.config import config_from
from dfshield.datasets import load_images
from dfshield.errors import InputError
from dfshield.evaluation.corruptions import CORRUPTIONS, evaluate_corruptions
from dfshield.runs.inputs.classifier_folder import load

WANTED = "evaluation.corruptions={names: [contrast, gaussian_noise], severities: [2, 4]}"


def test_they_are_measured_beside_the_attacks_once_and_shown(tiny):
    config = tiny()
    run = run_of(config)
    before = stamps(run / "evaluation")
    shown = json.loads(succeed("evaluate", config, WANTED, "--json").out)
    teacher, student = shown["corruptions"]
    assert (teacher["model"], student["model"]) == ("teacher", "student")
    assert set(teacher["accuracy"]) == {"contrast", "gaussian_noise"}
    after = stamps(run / "evaluation")
    assert {name: after[name] for name in before} == before  # the attacks' results stay
    # It is what the library measures.
    chosen = [CORRUPTIONS.make(name) for name in ("contrast", "gaussian_noise")]
    ours = evaluate_corruptions(
        load(run / "student"),
        load_images("digits").stratified(40, seed=0),
        corruptions=chosen,
        severities=(2, 4),
    )
    assert student["accuracy"] == json.loads(ours.to_json())["accuracy"]
    assert student["mean"] == ours.mean
    # Nothing is measured twice; page and table show it.
    table = succeed("evaluate", config, WANTED).out
    assert stamps(run / "evaluation") == after
    assert len(events(run, "corruptions_measured")) == 2
    assert "gaussian_noise" in table
    assert "mean of all" in table
    succeed("report", config, WANTED)
    page = (run / "report" / "index.html").read_text()
    assert "Common corruptions" in page
    assert f"{ours.mean:.1%}" in page
    succeed("report", config)
    assert "Common corruptions" not in (run / "report" / "index.html").read_text()
    wrong = call("evaluate", config, "evaluation.corruptions={names: [gausian_noise]}").refusal()
    assert "corruption 'gausian_noise' is unknown: did you mean 'gaussian_noise'?" in wrong


MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


@pytest.mark.parametrize(
    ("corruptions", "said"),
    [
        ({"severities": [6]}, "evaluation.corruptions.severities.0: "),
        ({"severities": []}, "evaluation.corruptions.severities: "),
        ({"names": []}, "evaluation.corruptions.names: "),
        ({"names": ["sno"]}, "evaluation.corruptions.names.0.name: corruption 'sno' is unknown"),
        ({"severity": 3}, "evaluation.corruptions.severity: "),
    ],
)
def test_what_is_wrong_is_named_by_its_whole_path(corruptions, said):
    with pytest.raises(InputError) as caught:
        config_from({**MINIMAL, "evaluation": {"corruptions": corruptions}})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
