from dataclasses import replace

import pytest
import yaml

from dfshield.errors import InputError
from dfshield.report import render_model_card
from dfshield.unmeasured import UNMEASURED


@pytest.fixture
def card(make_data, make_outcome):
    def render(outcome=(), **changes):
        data = make_data()
        fields = {
            "name": data.name,
            "created": data.created,
            "teacher": data.teacher,
            "threat": data.threat,
            "config_yaml": data.config_yaml,
            "versions": data.versions,
            "outcome": replace(data.seeds[0], seed=3, **dict(outcome)),
        }
        return render_model_card(**fields | changes)

    return render


def parts(text: str) -> tuple[dict, str]:
    empty, head, body = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(head), body


def test_head_parses_and_holds_the_student_s_numbers(card):
    head, _ = parts(card())
    assert head["library_name"] == "dfshield"
    assert head["pipeline_tag"] == "image-classification"
    assert head.get("license", "other") == "other"
    results = head["model-index"][0]["results"]
    values = {r["metrics"][0]["name"]: r["metrics"][0]["value"] for r in results}
    assert values == {"Accuracy": 0.965, "Accuracy under PGD-20 l_inf 8/255": 0.61}
    assert {r["dataset"]["name"] for r in results} == {"digits"}


def test_body_says_numbers_loading_and_the_warning(card):
    _, body = parts(card())
    body = body.replace("\xa0", " ")
    for said in (
        "Data-free is not private",
        "Keep the synthetic set to yourself",
        'dfshield.load("path/to/this/folder")',
        "l_inf perturbations of size 8/255",
        "61.0 % (56.7 – 64.7)",
        "15.2 % (10.9 – 18.9)",
        "26.8 %",
        "400 of digits (test)",
        "seed 3",
        "97.8 %",
        "f0" * 32,
        "nothing between the teacher and the evaluation touched a real image",
        "name: ward-7\nthreat: {norm: linf, eps: 8/255}",
    ):
        assert said in body, said
    assert body.endswith("\n")


def test_table_has_one_row_per_attack_and_says_flags(card, make_evaluation):
    flagged = make_evaluation("student", "FGSM", 40, collapsed=True, below_floor=True)
    _, body = parts(card({"evaluations": (make_evaluation("teacher", "FGSM", 200), flagged)}))
    rows = [line for line in body.splitlines() if line.startswith("|")]
    rows = rows[:3]  # the next table is that of the hold-out
    assert len({row.count("|") for row in rows}) == 1
    assert "student: collapsed, below the floor" in rows[2]
    assert "one class takes more than 95 % of the predictions" in body


def test_without_evaluations_the_card_says_so_and_what_is_known(card):
    head, body = parts(card({"evaluations": ()}))
    assert not {"model-index", "metrics"} & head.keys()
    said = " ".join(body.replace("\xa0", " ").split())
    for text in (
        UNMEASURED,
        "dfshield evaluate config.yaml evaluation.data.name=folder evaluation.data.path=PATH",
        "On 20 images that were synthesised like the surrogate set",
        "(epoch 1 of 1) gives the teacher's answer on 91.5 %",
        "on 63.5 %; the class that it gives most takes 25.0 % of its answers. That is agreement",
        "| 1 (kept) | 91.5 % | 63.5 % | 25.0 % |",
        "3 updates, from a loss of 2.000 to 0.667",
    ):
        assert text in said, text


def test_a_collapse_and_a_missing_holdout_are_said(card, make_outcome):
    *updates, epoch = make_outcome(0).history
    fallen = {**epoch["holdout"], "histogram": [20, 0, 0, 0], "collapsed": True}
    history = (*updates, {"epoch": 0, "holdout": fallen})
    _, body = parts(card({"evaluations": (), "history": history}))
    assert "100.0\xa0% of its answers: it has **collapsed**" in body
    _, body = parts(card({"evaluations": (), "history": tuple(updates), "kept_epoch": None}))
    assert UNMEASURED in body
    assert "there was no synthetic hold-out" in body


def test_hostile_names_stay_text(card, make_data):
    evil = "<script>|`*x*`\n---\n# big"
    config = 'a: |\n  ```\n  <b> & "c"\n'
    teacher = {**make_data().teacher, "class_names": [evil] * 4, "architecture": evil}
    head, body = parts(card(name=evil, teacher=teacher, config_yaml=config))
    assert head["model-index"][0]["name"] == " ".join(evil.split())
    assert "<script>" not in body
    assert "\n# big" not in body
    assert "````yaml\n" + config.rstrip() + "\n````" in body


def test_a_missing_field_is_named(card):
    with pytest.raises(InputError, match="threat: eps"):
        card(threat={"norm": "linf"})
