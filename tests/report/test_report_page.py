from dataclasses import replace
from statistics import stdev

import pytest

from dfshield.engine.trial import RungReport, Trial
from dfshield.errors import InputError
from dfshield.report import render_page
from dfshield.unmeasured import UNMEASURED

pytestmark = pytest.mark.usefixtures("quick_pictures")  # see test_drawn_page.py


def test_every_number_of_one_seed_is_shown(make_data, read_page):
    text = read_page(render_page(make_data())).text
    assert "ward-7: a resnet8 hardened against l_inf 8/255 without its training data" in text
    for shown in (
        *("98.5 %", "94.2 – 100.0 %", "balanced 95.5 %"),  # teacher, clean: 394 of 400
        *("96.5 %", "92.2 – 100.0 %", "balanced 93.6 %"),  # student, clean: 386
        *("15.2 %", "10.9 – 18.9 %", "balanced 14.8 %"),  # teacher, PGD-20: 61
        *("61.0 %", "56.7 – 64.7 %", "balanced 59.2 %"),  # student, PGD-20: 244
        *("26.8 %", "always “two”"),
        *("2,000", "97.8 %", "499 to 501", "3 min 12 s", "dss: Gradient descent"),
        *("Learning rate 0.1", "rule code, linear True"),
        *("91.5 %", "63.5 %", "25.0 % to 50.0 %, mean 37.5 %"),
        *("f0" * 32, "d1" * 32, "2.13.0", "step 2/255", "dfshield run config.yaml"),
        "400 of 450 real images of digits (test split), seed 0",
        "Nothing between the teacher and this evaluation touched a real image",
        "Data-free is not private",
        "One seed: the spread between runs is not known",
        "threat: {norm: linf, eps: 8/255}",
    ):
        assert shown in text.replace("\xa0", " "), shown
    assert "Warning." not in text
    assert "What may help" not in text


def test_the_worst_of_several_attacks_is_not_called_an_attack(
    make_data, make_outcome, make_evaluation, read_page
):
    measured = tuple(
        make_evaluation(model, label, count, attack={"name": name})
        for model in ("teacher", "student")
        for label, count, name in (
            ("PGD-20", 240, "pgd"),
            ("Worst of 3 attacks", 200, "worst-case"),
        )
    )
    text = read_page(render_page(make_data(make_outcome(0, measured)))).text.replace("\xa0", " ")
    assert "Under the worst of 3 attacks on each image (l_inf 8/255), the student answers" in text
    attacks = tuple(e for e in measured if e["label"] == "PGD-20")
    text = read_page(render_page(make_data(make_outcome(0, attacks)))).text.replace("\xa0", " ")
    assert "Under PGD-20 (l_inf 8/255), the strongest attack measured, the student answers" in text


def test_three_seeds_give_mean_and_sample_deviation(make_data, make_outcome, read_page):
    text = read_page(render_page(make_data(*map(make_outcome, range(3))))).text
    counts = [244, 252, 260]
    mean, spread = sum(counts) / 12, 100 * stdev(count / 400 for count in counts)
    assert f"{mean:.1f} ± {spread:.1f}" in text
    for seed, count in enumerate(counts):
        row = text[text.index(f"seed {seed}", text.index("PGD-20 l_inf 8/255 ")) :]
        assert f"{count / 4:.1f}" in row[:120]
    # The teacher was measured once and is shared: one measurement has no spread.
    assert "98.5 ±" not in text
    assert "spread between runs is" not in text


def test_collapsed_and_below_floor_are_said_in_words(
    make_data, make_evaluation, make_outcome, read_page
):
    student = make_evaluation(
        "student", "AutoAttack", 80, collapsed=True, below_floor=True, standard_suite=False
    )
    fallen = make_outcome(0, (make_evaluation("teacher", "AutoAttack", 4), student))
    text = read_page(render_page(make_data(fallen))).text
    assert text.count("Warning.") == 2
    assert "What may help a student that is collapsed" in text
    assert "the student has collapsed: one class takes more than 95 % of the predictions" in text
    assert "the student is below the floor: a classifier that always answers" in text
    assert "not the standard suite" in text
    two = render_page(make_data(fallen, make_outcome(1, (student | {"collapsed": False},))))
    assert "collapsed (1 of 2 seeds)" in read_page(two).text


def test_a_seed_that_lacks_an_attack_is_said(make_data, make_evaluation, make_outcome, read_page):
    seeds = (make_outcome(0), make_outcome(1, (make_evaluation("student", "FGSM", 300),)))
    assert "not measured" in read_page(render_page(make_data(*seeds))).text


def test_a_defended_teacher_has_a_column_and_says_what_it_is(
    make_data, make_evaluation, make_outcome, read_page
):
    defence = {"name": "tte", "padding": 4, "compat": "corrected"}
    measured = (
        *make_outcome(0).evaluations,
        make_evaluation("teacher+tte", "Clean", 372, defence=defence),
        make_evaluation("teacher+tte", "PGD-20", 90, defence=defence),
    )
    page = render_page(make_data(make_outcome(0, measured), make_outcome(1)))
    text = read_page(page).text.replace("\xa0", " ")
    assert "Attack Teacher Student Teacher+tte Floor" in text
    assert "Teacher+tte is the model behind the test-time defence tte (padding 4, compat" in text
    row = text[text.index("PGD-20 l_inf 8/255 ") :]
    assert row.index("22.5 %") < row.index("26.8 %")  # 90 of 400, before the floor
    assert "the student answers 62.0 %" in text  # the sentence at the top is the student's
    assert "not measured" in text[text.index("seed 1") :]
    alone = render_page(make_data())
    assert "test-time defence" not in alone
    assert 'class="results wide"' not in alone


def test_hostile_names_stay_text(make_data, make_evaluation, make_outcome, read_page):
    evil = '<script>alert("x")</script>$_{'
    noted = make_evaluation("student", evil, 200, notes=[evil], standard_suite=None)
    data = make_data(make_outcome(0, (noted,)), name=evil, config_yaml=f"name: {evil}")
    teacher = {**data.teacher, "architecture": evil, "class_names": [evil, "$$", "a\nb", "日本"]}
    page = render_page(replace(data, teacher=teacher, versions={evil: evil}, created=evil))
    reader = read_page(page)
    assert "script" not in reader.tags
    assert evil in reader.text


def test_empty_history_and_no_evaluation_are_said(make_data, make_outcome, read_page):
    bare = replace(make_outcome(0, ()), history=(), kept_epoch=None)
    text = read_page(render_page(make_data(bare))).text
    assert "No training history was recorded" in text
    assert UNMEASURED in text
    assert "Without a synthetic hold-out" in text


def test_the_page_shows_the_verdict_of_an_engine_trial(make_data, make_outcome, read_page):
    outcome = make_outcome(0)
    ways = (
        RungReport("compiled float32", "failed", "out of <memory>", 61.0),
        RungReport("compiled bfloat16", "chosen", "", 75.0, 0.012, 5.0),
    )
    trial = Trial({"precision": "bfloat16", "compiled": True}, 6e5, 0.06, ways).to_json()
    tried = replace(outcome, synthesis={**outcome.synthesis, "engine_trial": trial})
    text = " ".join(read_page(render_page(make_data(tried))).text.split())
    assert "Engine trial A plain iteration took 60 ms." in text
    assert "compiled float32: failed; 1 min 1 s to begin; out of <memory>" in text
    assert "compiled bfloat16: chosen; 12 ms, 5.00 times as fast; 1 min 15 s to begin" in text
    assert "Engine trial" not in read_page(render_page(make_data(outcome))).text
    trained = read_page(render_page(make_data(replace(outcome, engine_trial=trial)))).text
    assert "compiled bfloat16: chosen" in trained[trained.index("Training") :]


def test_without_evaluations_the_page_tells_what_synthetic_images_tell(
    make_data, make_outcome, read_page
):
    other = make_outcome(1, ())
    *updates, epoch = other.history
    holdout = {**epoch["holdout"], "agreement_clean": 0.875, "agreement_pgd": 0.625}
    fallen = {**holdout, "histogram": [20, 0, 0, 0], "collapsed": True}
    epochs = ({"epoch": 0, "holdout": holdout}, {"epoch": 1, "holdout": fallen})
    other = replace(other, history=(*updates, *epochs), kept_epoch=0)
    page = render_page(make_data(make_outcome(0, ()), other))
    reader = read_page(page)
    text = reader.text.replace("\xa0", " ")
    assert text.count(UNMEASURED) == 1
    for said in (
        "seed 0 epoch 1 of 1 91.5 of 20 images 63.5 25.0",
        "seed 1 epoch 1 of 2 87.5 of 20 images 62.5 25.0",
        "mean ± s.d. 89.5 ± 2.8 63.0 ± 0.7",
        "1 kept 87.5 62.5 25.0 2 87.5 62.5 100.0 collapsed",
        "dfshield evaluate config.yaml evaluation.data.name=folder evaluation.data.path=PATH",
    ):
        assert said in text, said
    assert "Accuracy, teacher and student" not in text
    assert "What is predicted" not in text
    last = render_page(make_data(make_outcome(0, ()), replace(other, kept_epoch=1)))
    assert "Synthetic hold-out, seed 1: the student has collapsed" in read_page(last).text


def test_a_seed_without_evaluation_is_said_beside_one_with(make_data, make_outcome, read_page):
    text = read_page(render_page(make_data(make_outcome(0), make_outcome(1, ())))).text
    assert f"Seed 1: {UNMEASURED}" in text
    assert "Accuracy, teacher and student" in text
    assert UNMEASURED not in read_page(render_page(make_data())).text


def test_a_missing_field_is_one_line_that_names_it(make_data, make_evaluation, make_outcome):
    broken = make_evaluation("student", "Clean", 300)
    del broken["floor"]
    with pytest.raises(InputError, match="evaluation: floor: field required") as caught:
        render_page(make_data(make_outcome(0, (broken,))))
    assert "\n" not in str(caught.value)
