"""The table of results: every accuracy with its interval, within 80 columns."""

import pytest
from tiny_run import call

from dfshield.cli.tables import print_results, print_unmeasured
from dfshield.evaluation import DataInfo, EvaluationResult, wilson_interval
from dfshield.unmeasured import UNMEASURED


def result(model, label, num_correct, histogram):
    num_images = sum(histogram)
    return EvaluationResult(
        model=model,
        model_fingerprint=None,
        data=DataInfo(name="digits", split="test", fingerprint="f", num_images=num_images),
        attack=None,
        label=label,
        norm=None if label == "clean" else "linf",
        eps=None if label == "clean" else 8 / 255,
        num_images=num_images,
        num_correct=num_correct,
        accuracy=num_correct / num_images,
        interval=wilson_interval(num_correct, num_images),
        floor=0.2,
        majority_class=0,
        balanced_accuracy=0.321,
        prediction_histogram=histogram,
        collapsed=max(histogram) > 0.95 * num_images,
        below_floor=False,
        standard_suite=None,
        non_finite=0,
        max_perturbation=0.0,
        notes=(),
        seed=0,
        slice_size=10,
        seconds=0.0,
        versions={},
    )


def results(num_correct):
    return [
        result(model, label, num_correct, histogram)
        for model, histogram in (("teacher", (100, 300, 100)), ("student", (490, 5, 5)))
        for label in ("clean", "AutoAttack")
    ]


@pytest.fixture
def table(capsys, monkeypatch):
    """Print results on a terminal of 80 columns and return the lines."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(of_seeds):
        print_results(of_seeds)
        return capsys.readouterr().out.splitlines()

    return show


def test_one_seed(table):
    lines = table({0: results(282)})
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for figure in ("56.4%", "52.0 to 60.7", "balanced 32.1%"):
        assert text.count(figure) == 4, figure
    assert text.count("mostly 1: 60%") == text.count("mostly 0: 98%") == 2
    assert "AutoAttack" in text
    assert "collapsed" in text


def test_several_seeds_have_mean_and_spread_and_an_interval_each(table):
    lines = table({1: results(282), 2: results(232)})
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert text.count("51.4% ± 7.1%") == 4
    for seed, figures in (("seed 1", ("56.4%", "52.0 to 60.7")), ("seed 2", ("46.4%",))):
        assert text.count(f"  {seed} ") == 2
        for figure in figures:
            assert text.count(figure) == 4, figure
    assert text.partition("What may help")[0].count(" to ") == 8
    assert text.index("51.4% ±") < text.index("seed 1") < text.index("seed 2")


def of_seed(seed, clean, robust, *, measured=False, collapsed=False):
    holdout = {"epoch": 4, "agreement_clean": clean, "agreement_pgd": robust}
    holdout |= {"histogram": [20, 0] if collapsed else [12, 8], "collapsed": collapsed}
    return {"seed": seed, "train": {"holdout": holdout}, "real_images_measured": measured}


def test_students_that_no_real_image_was_measured_with(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    seeds = [
        of_seed("0", 0.9, 0.5),
        of_seed("1", 0.8, 0.25, collapsed=True),
        of_seed("2", 0.7, 0.1, measured=True),
    ]
    state = {"seeds": seeds, "remarks": [f"Seeds 0, 1: {UNMEASURED}"]}
    print_unmeasured(state, ["my run.yaml", "name=[x]"])
    *table, remark, measure, report = capsys.readouterr().out.splitlines()
    assert max(map(len, table)) <= 80
    text = "\n".join(table)
    for said in (
        "90.0%",
        "25.0%",
        "epoch 5, 20 images, collapsed",
        "85.0% ± 7.1%",
        "37.5% ± 17.7%",
    ):
        assert said in text, said
    assert "seed 2" not in text
    assert remark == f"Seeds 0, 1: {UNMEASURED}"
    given = "'my run.yaml' 'name=[x]'"
    data = "evaluation.data.name=folder evaluation.data.path=PATH"
    assert measure == f"To measure it: dfshield evaluate {given} {data}"
    assert report == f"and then: dfshield report {given}"
    print_unmeasured({"seeds": seeds[2:], "remarks": []}, [])
    assert capsys.readouterr().out == ""


def test_a_run_where_no_folder_can_be_made_is_refused(tiny):
    config = tiny(keep=())
    assert "/proc/x" in call("run", config, "storage.path=/proc/x").refusal()
