import pytest
import yaml

from dfshield.errors import InputError
from dfshield.report import render_model_card


@pytest.fixture
def card(make_data, make_outcome):
    def render(**changes):
        data = make_data()
        fields = {
            "name": data.name,
            "seed": 3,
            "created": data.created,
            "teacher": data.teacher,
            "threat": data.threat,
            "synthesis": data.seeds[0].synthesis,
            "config_yaml": data.config_yaml,
            "versions": data.versions,
            "evaluations": data.seeds[0].evaluations,
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
    _, body = parts(card(evaluations=[make_evaluation("teacher", "FGSM", 200), flagged]))
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len({row.count("|") for row in rows}) == 1
    assert "student: collapsed, below the floor" in rows[2]
    assert "one class takes more than 95 % of the predictions" in body


def test_without_evaluations_nothing_is_claimed(card):
    head, body = parts(card(evaluations=()))
    assert "model-index" not in head
    assert "Not evaluated yet" in body


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
