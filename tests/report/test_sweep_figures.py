from io import BytesIO
from xml.etree import ElementTree

import pytest
from PIL import Image

from dfshield.report.sweep import figures as drawing
from dfshield.report.sweep import sweep_figures

L1, L2 = "training.objective.lambda1", "training.objective.lambda2"
TAU, K = "training.gradrefine.tau", "training.gradrefine.num_batches"


def measured(clean, robust, **more):
    return {
        "holdout": {"agreement_clean": clean, "agreement_pgd": robust},
        "test": {"clean": clean, "PGD-20": robust + 0.1, "AutoAttack": robust},
        "floor": 0.1,
        **more,
    }


def opened(png):
    return Image.open(BytesIO(png)).convert("RGB")


def words(svg):
    """Every text of an SVG."""
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


@pytest.fixture
def grid(make_sweep):
    def field(values, seed):
        if values[L1] == 10 and values[L2] == 10:
            return measured(0.1, 0.1, collapsed=True)
        if values[L1] == 10 and values[L2] == 0.0:
            return {"state": "failed", "reason": "NaN"}
        return measured(
            0.8 - 0.01 * values[L1], 0.05 if values[L2] == 10 else 0.2 + values[L1] / 100
        )

    return make_sweep({L2: [0.0, 1.0, 10], L1: [1, 10]}, field)


def test_a_grid_has_its_values_marks_and_rows_of_the_first_weight(grid, only_svg):
    figures = sweep_figures(grid)
    assert set(figures) == {
        "heatmap-lambda1-lambda2",
        "curves-lambda1",
        "curves-lambda2",
        "pareto",
        "pareto-holdout",
        "proxy",
    }
    said = words(figures["heatmap-lambda1-lambda2"].svg)
    assert said.count("79.0") == 3
    assert said.count("21.0") == 2
    assert said.count("5.0") == 1
    for text in ("λ1", "λ2", "Clean accuracy, %", "AutoAttack l_inf 4/255, %"):
        assert text in said
    assert said.count("✕") == 2
    assert said.count("▼") == 1
    assert said.count("!") == 2
    assert said.count("★") == 2
    joined = " ".join(said)
    assert "✕ collapsed: one class takes more than 95 % of the predictions" in joined
    assert "★ recommended setting, chosen on the synthetic hold-out, without real images" in joined


def test_choosing_by_real_images_stands_in_every_picture(make_sweep, only_svg):
    data = make_sweep(
        {TAU: [0.0, 0.5, 1.0], K: [1, 20]},
        lambda v, s: measured(0.8 - v[TAU] / 10, 0.2 + v[TAU] / 10 + v[K] / 1000),
        select_on="test",
        metric="AutoAttack",
    )
    figures = sweep_figures(data)
    assert len(figures) == 6
    for name, figure in figures.items():
        assert "chosen by real test accuracy: its figure is optimistic" in " ".join(
            words(figure.svg)
        ), name


def test_without_real_images_the_titles_say_agreement(make_sweep, only_svg):
    data = make_sweep(
        {TAU: [0.0, 0.5]}, lambda v, s: measured(0.8, 0.3 + v[TAU] / 10, test={}), data_name=None
    )
    figures = sweep_figures(data)
    assert set(figures) == {"curves-tau", "pareto"}
    said = words(figures["curves-tau"].svg)
    assert "Agreement with the teacher, clean, synthetic hold-out, %" in said
    assert "Agreement with the teacher, under PGD, synthetic hold-out, %" in said


def test_other_axes_are_lines_or_held_never_averaged(make_sweep, only_svg):
    def figures_for(num_k):
        ks = list(range(1, num_k + 1))
        data = make_sweep(
            {TAU: [0.0, 0.5], K: ks}, lambda v, s: measured(0.5 + v[K] / 100, 0.3 + v[K] / 100)
        )
        return words(sweep_figures(data)["curves-tau"].svg)

    six = figures_for(6)
    assert [text for text in six if text.startswith("K ")] == [f"K {n}" for n in range(1, 7)]
    seven = figures_for(7)
    assert [text for text in seven if "K 7" in text] == ["at K 7 (as recommended)"] * 2


def test_a_third_axis_is_held_at_the_recommended_setting(make_sweep, only_svg):
    data = make_sweep(
        {L1: [0.1, 1], L2: [0.1, 1], TAU: [0.0, 0.5]},
        lambda v, s: measured(0.8, 0.3 + v[TAU] / 10 + v[L1] / 100),
    )
    figures = sweep_figures(data)
    assert [n for n in figures if n.startswith("heatmap")] == [
        "heatmap-lambda1-lambda2",
        "heatmap-lambda1-tau",
        "heatmap-lambda2-tau",
    ]
    assert "at τ 0.5 (as recommended)" in words(figures["heatmap-lambda1-lambda2"].svg)
    assert "36.0" in words(figures["heatmap-lambda1-lambda2"].svg)
    assert "30.0" not in words(figures["heatmap-lambda1-lambda2"].svg)


def test_bands_only_with_several_seeds(make_sweep, only_svg):
    def said(seeds):
        data = make_sweep(
            {TAU: [0.0, 0.5]}, lambda v, s: measured(0.8, 0.3 + v[TAU] / 10 + s / 50), seeds=seeds
        )
        return " ".join(words(sweep_figures(data)["curves-tau"].svg))

    assert "bands: ± sample standard deviation over seeds" in said((0, 1, 2))
    assert "bands" not in said((0,))


def test_random_search_gives_no_heat_map(make_sweep, only_svg):
    data = make_sweep(
        {TAU: [0.1, 0.2, 0.3], K: [1, 2, 3]}, lambda v, s: measured(0.8, 0.3 + v[TAU])
    )
    diagonal = tuple(t for t in data.trials if round(10 * t.values[TAU]) == t.values[K])
    data = type(data)(**{**vars(data), "trials": diagonal})
    assert not [name for name in sweep_figures(data) if name.startswith("heatmap")]


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({TAU: [0.5]}, measured(0.8, 0.3)),
        ({TAU: [0.0, 0.5]}, {"state": "failed"}),
        ({TAU: [0.0, 0.5]}, {"state": "waiting"}),
        ({"training.objective.name": ["soft-label", "$x_{"]}, {"state": "running"}),
        ({}, measured(0.8, 0.3)),
    ],
)
def test_where_nothing_can_be_drawn_nothing_is(make_sweep, parameters, fields):
    assert sweep_figures(make_sweep(parameters, lambda v, s: fields)) == {}


def test_names_are_no_formulas_and_no_markup(make_sweep, only_svg):
    data = make_sweep(
        {"training.objective.name": ["$x_{", "<b>&"]},
        lambda v, s: measured(0.8 if "$" in v["training.objective.name"] else 0.7, 0.3),
    )
    assert any("$x_{" in text for text in words(sweep_figures(data)["pareto"].svg))


def test_pictures_are_deterministic_light_and_dark(make_sweep):
    data = make_sweep({TAU: [0.0, 0.5]}, lambda v, s: measured(0.8, 0.3 + v[TAU] / 10))
    figures = sweep_figures(data)
    assert figures == sweep_figures(data)
    for figure in figures.values():
        light, dark = (
            Image.open(BytesIO(png)).convert("RGB") for png in (figure.png, figure.png_dark)
        )
        assert light.size == dark.size
        assert min(light.getpixel((0, 0))) > 240
        assert max(dark.getpixel((0, 0))) < 60
        assert b"<dc:date>" not in figure.svg
        assert b"Matplotlib v" not in figure.svg


def test_what_is_laid_out_once_is_what_every_look_alone_would_be(make_sweep, monkeypatch):
    axes = {TAU: [0.0, 0.5], K: [1, 2]}
    data = make_sweep(axes, lambda v, s: measured(0.8, 0.3 + v[TAU] / 10))
    together = sweep_figures(data)
    real = drawing.drawn
    monkeypatch.setattr(
        drawing, "drawn", lambda h, paint, *looks: [real(h, paint, look)[0] for look in looks]
    )
    assert together.keys() >= {"pareto", "proxy", "curves-tau"}
    assert sweep_figures(data) == together
