"""Axes of cases on the page: the matrix, its heat map, references, and what does not compare."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from dfshield.report.sweep import (
    matrix_of,
    proxy_agreement,
    recommend,
    render_sweep_page,
    sweep_figures,
)
from dfshield.results import SOME_NOT_DATA_FREE, WORST_OF

ROWS, COLUMNS, TAU = "cases.teacher", "cases.images", "training.gradrefine.tau"
REFERENCE = {"training.images.labels": "hard", "training.objective.name": "std"}
CASES = {
    ROWS: {"10": {}, "2": {"teacher.options.width": 2}},
    COLUMNS: {"surrogate": {}, "original": REFERENCE},
}
CLEAN = {("10", "surrogate"): 0.9, ("10", "original"): 0.95, ("2", "surrogate"): 0.8}


def measured(values, seed):
    place = (values[ROWS], values[COLUMNS])
    if place == ("2", "original"):
        return {"state": "failed", "reason": "no images", "data_free": False}
    clean = CLEAN[place] + seed / 100
    holdout = {"agreement_clean": clean, "agreement_pgd": clean - 0.2}
    data_free = place[1] == "surrogate"
    return {
        "holdout": holdout if data_free else {},
        "test": {
            "clean": clean,
            "PGD-20": clean - 0.2,
            "AutoAttack": clean - 0.3,
            f"{WORST_OF} 2 attacks": clean - 0.3,
        },
        "floor": 0.1,
        "data_free": data_free,
    }


@pytest.fixture
def matrix(make_sweep):
    parameters = {key: list(cases) for key, cases in CASES.items()}
    changes = {"cases": CASES, "comparable": False, "teacher": {}}
    return make_sweep(parameters, measured, seeds=(0, 2), **changes)


def words(svg):
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def test_a_matrix_has_a_row_and_a_column_for_every_case_as_they_were_given(matrix):
    found = matrix_of(matrix)
    assert (found.rows.label, found.rows.values) == ("teacher", ("10", "2"))
    assert (found.columns.label, found.columns.values) == ("images", ("surrogate", "original"))
    assert [measure.key for measure in found.measures] == ["clean", "PGD-20", "AutoAttack"]
    lines = list(found.lines)
    assert [(row, measure.key) for row, measure, _ in lines] == [
        (row, key) for row in ("10", "2") for key in ("clean", "PGD-20", "AutoAttack")
    ]
    assert lines[0][2] == ["91.0 ± 1.4", "96.0 ± 1.4 †"]
    assert lines[2][2] == ["61.0 ± 1.4", "66.0 ± 1.4 †"]
    assert lines[5][2] == ["51.0 ± 1.4", "– ! †"]
    assert {one.mark.name for one in found.marks} == {"not data-free", "failed"}


def test_its_heat_map_has_every_figure_with_its_spread(matrix):
    figures = sweep_figures(matrix)
    assert set(figures) == {"heatmap-teacher-images"}
    shown = words(figures["heatmap-teacher-images"].svg)
    for text in ("Clean accuracy, %", "PGD-20 l_inf 4/255, %", "AutoAttack l_inf 4/255, %"):
        assert text in shown
    assert shown.count("surrogate") == 3
    for text in ("91.0 ± 1.4", "71.0 ± 1.4", "61.0 ± 1.4", "66.0 ± 1.4"):
        assert any(text in one for one in shown)
    assert any("† not data-free" in one for one in shown)


def test_what_does_not_compare_is_not_ranked(matrix):
    assert recommend(matrix) is None
    assert proxy_agreement(matrix) is None
    same = replace(matrix, comparable=True)
    assert recommend(same).values == {ROWS: "10", COLUMNS: "surrogate"}
    assert "pareto" in sweep_figures(same)


def test_a_reference_is_not_recommended_beside_what_is_data_free(matrix):
    by_test = replace(matrix, comparable=True, select_on="test", metric="AutoAttack")
    assert recommend(by_test).values == {ROWS: "10", COLUMNS: "surrogate"}
    references = tuple(t for t in by_test.trials if not t.data_free)
    alone = recommend(replace(by_test, trials=references))
    assert alone.values == {ROWS: "10", COLUMNS: "original"}


def test_the_page_has_table_warning_and_no_recommendation(matrix, read_page):
    text = read_page(render_sweep_page(matrix)).text.replace("\xa0", " ")
    for shown in (
        "ward-7: teacher × images",
        "none is recommended",
        SOME_NOT_DATA_FREE,
        "96.0 ± 1.4 †",
        "† not data-free",
        "no images",
    ):
        assert shown in text, shown
    assert "is recommended ★" not in text
    assert "Could the hold-out be trusted" not in text


def test_the_recommended_case_is_told_as_overrides_of_a_run(make_sweep, read_page):
    cases = {"cases.recipe": {"plain": {}, "std": {"training.objective.name": "std", "a.b": [1]}}}
    data = make_sweep(
        {"cases.recipe": list(cases["cases.recipe"]), TAU: [0, 0.5]},
        lambda v, s: {
            "holdout": {
                "agreement_clean": 0.5,
                "agreement_pgd": 0.2 + (v["cases.recipe"] == "std") + v[TAU],
            }
        },
        cases=cases,
    )
    text = read_page(render_sweep_page(data, {})).text
    assert "recipe std, τ 0.5 is recommended" in text
    overrides = "training.objective.name=std 'a.b=[1]' training.gradrefine.tau=0.5"
    assert overrides in text
    assert set(sweep_figures(data)) == {
        "heatmap-recipe-tau",
        "curves-tau",
        "pareto",
    }
    assert matrix_of(data) is None


def test_cases_with_an_eps_of_their_own_say_so(make_sweep, read_page):
    data = make_sweep(
        {"cases.threat": ["weak", "strong"]},
        lambda v, s: {"test": {"clean": 0.9, "AutoAttack": 0.4}, "floor": 0.1},
        cases={"cases.threat": {"weak": {"threat.eps": "2/255"}, "strong": {}}},
        comparable=False,
    )
    assert data.eps_swept
    assert "at the ε of each setting" in read_page(render_sweep_page(data, {})).text
