"""The table of results: every accuracy with its interval, within 80 columns."""

import pytest
from tiny_run import call

from dfshield.cli.tables import print_results
from dfshield.evaluation import DataInfo, EvaluationResult, wilson_interval


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


def test_a_run_where_no_folder_can_be_made_is_refused(tiny):
    config = tiny(keep=())
    assert "/proc/x" in call("run", config, "storage.path=/proc/x").refusal()
