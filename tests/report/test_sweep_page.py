from dataclasses import replace

import pytest

from dfshield.report.sweep import render_sweep_page

L1, L2 = "training.objective.lambda1", "training.objective.lambda2"
TAU = "training.gradrefine.tau"


def measured(clean, robust, **more):
    return {
        "holdout": {"agreement_clean": clean, "agreement_pgd": robust},
        "test": {"clean": clean, "AutoAttack": robust},
        "floor": 0.1,
        **more,
    }


@pytest.fixture
def text_of(read_page):
    """Return a function that gives the text of a page whose pictures are left out."""
    return lambda data: read_page(render_sweep_page(data, {})).text.replace("\xa0", " ")


@pytest.fixture
def mixed(make_sweep):
    fields = {
        (0.1, 0): measured(0.8, 0.21),
        (0.1, 1): measured(0.78, 0.23),
        (1, 0): measured(0.7, 0.24),
        (1, 1): measured(0.72, 0.26),
        (10, 0): measured(0.1, 0.1, collapsed=True),
        (10, 1): measured(0.3, 0.05),
        (100, 0): {"state": "failed", "reason": "CUDA out of memory"},
        (100, 1): {"state": "stopped", "reason": "behind the median after epoch 4"},
    }
    return make_sweep(
        {L1: [0.1, 1, 10, 100]},
        lambda v, s: fields[v[L1], s],
        seeds=(0, 1),
    )


def test_page_is_well_formed_and_loads_nothing(mixed, checked_style):
    page = render_sweep_page(mixed)
    checked_style(page)
    assert page == render_sweep_page(mixed)


def test_settings_trials_and_marks_are_shown(mixed, text_of):
    text = text_of(mixed)
    for shown in (
        "ward-7: λ1 1 is recommended",
        "Highest agreement with the teacher, under PGD on the synthetic hold-out: 25.0 %",
        "4 settings, 8 trials: 6 done, 1 failed, 1 stopped",
        "no real image took part in the choice",
        *("79.0 ± 1.4", "22.0 ± 1.4", "71.0 ± 1.4", "25.0 ± 1.4"),
        "✕ collapsed (1 of 2 seeds)",
        "▼ below the floor (1 of 2 seeds)",
        "! failed (1 of 2 seeds)",
        "■ stopped early (1 of 2 seeds)",
        "CUDA out of memory",
        "behind the median after epoch 4",
        "Rank correlation over 3 settings: Spearman 1.00, Kendall 1.00",
        "With so few settings the correlation is itself uncertain",
        "94.0 %",
        "training.objective.lambda1=1",
        "2.13.0",
    ):
        assert shown in text, shown
    assert "Chosen by real test accuracy" not in text


def test_the_paper_s_cell_stands_beside_ours(mixed, text_of):
    text = text_of(mixed)
    assert "74.8 / 22.6" in text or "74.8 / 22.7" in text
    assert "table 26" in text
    assert "synthesis.num_images 2000 (paper: 60000)" in text
    assert "Paper" not in text_of(replace(mixed, data_name="digits"))


def test_choosing_by_real_images_is_a_banner(mixed, text_of):
    text = text_of(replace(mixed, select_on="test", metric="AutoAttack"))
    assert "Chosen by real test accuracy." in text
    assert "figure of the chosen setting is optimistic" in text
    assert "★ recommended, by real test accuracy" in text
    assert "no real image took part" not in text


def test_without_real_images_no_accuracy_is_claimed(make_sweep, text_of):
    data = make_sweep(
        {TAU: [0.0, 0.5, 1.0]},
        lambda v, s: measured(0.8, 0.3 + v[TAU] / 10, test={}, floor=None),
        data_name=None,
        teacher={},
    )
    text = text_of(data)
    assert "τ 1 is recommended" in text
    assert "real test images" not in text
    assert "Could the hold-out be trusted?" not in text
    assert "The teacher, for reference" not in text


def test_a_sweep_that_only_failed_says_so(make_sweep, text_of):
    text = text_of(
        make_sweep({TAU: [0.0, 0.5]}, lambda v, s: {"state": "failed", "reason": "NaN in the loss"})
    )
    assert "no setting can be recommended" in text
    assert text.count("NaN in the loss") == 2
    assert "2 trials: 2 failed" in text


def test_an_unfinished_sweep_says_so(make_sweep, text_of):
    states = {0.0: measured(0.8, 0.3), 0.5: {"state": "running"}, 1.0: {"state": "waiting"}}
    text = text_of(make_sweep({TAU: [0.0, 0.5, 1.0]}, lambda v, s: states[v[TAU]]))
    assert "3 trials: 1 done, 1 running, 1 waiting" in text
    assert "figures and the recommendation can change" in text
    assert "… not finished" in text
    nothing = make_sweep({TAU: [0.0]}, lambda v, s: {"state": "waiting"})
    assert "no setting can be recommended yet" in text_of(nothing)


def test_one_trial_no_trial_and_no_axis(make_sweep, text_of):
    one = make_sweep({TAU: [0.5]}, lambda v, s: measured(0.8, 0.3))
    assert "No other setting can be compared with it" in text_of(one)
    assert "No trial was planned" in text_of(replace(one, trials=()))
    assert "the only setting" in text_of(make_sweep({}, lambda v, s: measured(0.8, 0.3)))


def test_many_trials_and_values_that_are_no_numbers(make_sweep, text_of):
    data = make_sweep(
        {
            "training.objective.name": ["soft-label", "trades"],
            "threat.eps": ["2/255", "4/255"],
            TAU: [n / 20 for n in range(21)],
        },
        lambda v, s: measured(0.8, 0.3 + v[TAU] / 10),
        seeds=(0, 1),
    )
    text = text_of(data)
    assert "84 settings, 168 trials: 168 done" in text
    assert "objective.name trades, ε 4/255, τ 0.35" in text
    assert "l_inf ε swept" in text


def test_hostile_names_stay_text(make_sweep, read_page):
    evil = '<script>alert("x")</script>$_{'
    data = make_sweep(
        {evil: [evil, "b"]},
        lambda v, s: measured(0.8, 0.3, reason=evil, state="failed" if v[evil] == "b" else "done"),
        name=evil,
        created=evil,
        architecture=evil,
        config_yaml=evil,
        versions={evil: evil},
        teacher={evil: 0.5},
    )
    reader = read_page(render_sweep_page(data))
    assert "script" not in reader.tags
    assert evil in reader.text
