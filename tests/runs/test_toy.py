"""The toy of figure 3: points as images of one pixel, made by the inversion of images."""

import csv
from io import StringIO

import pytest
import torch

from dfshield.experiments import experiment, scale
from dfshield.runs import SilentObserver
from dfshield.runs.reproduction import reproduce, reproduction
from dfshield.runs.reproduction.toy import toy_run

SMALL = experiment("fig-3").toy.model_copy(
    update={"num_points": 200, "epochs": 4, "iterations": 100, "num_seeds": 2}
)


@pytest.fixture(scope="module")
def run():
    return toy_run(SMALL, 0)


def test_the_network_knows_the_real_points(run):
    with torch.no_grad():
        answers = run.network(run.real.images).argmax(dim=1)
    assert (answers == run.real.labels).double().mean() > 0.9
    assert run.real.images.shape == (200, 2, 1, 1)


def test_points_are_made_of_the_network_alone_and_differ_by_coefficients(run):
    fixed, diverse = run.made.values()
    assert fixed.labels.tolist() == diverse.labels.tolist()
    assert not torch.equal(fixed.images, diverse.images)
    for points in (fixed, diverse):
        assert 0 <= points.images.min() <= points.images.max() <= 1
        with torch.no_grad():
            answers = run.network(points.images).argmax(dim=1)
        # Of four classes; the paper's toy has noisy points, too.
        assert (answers == points.labels).double().mean() > 0.5
    assert all(0 < share <= 1 for share in run.coverage.values())


def test_the_figure_says_what_became_of_coverage(tmp_path, run):
    one = experiment("fig-3").model_copy(update={"toy": SMALL})
    found = reproduction(one, scale("paper"), overrides=[f"storage.path={tmp_path}"])
    result, folder = reproduce(found, pytest.fail, observer=SilentObserver(), command="dfshield")
    assert folder.exists("fig-3.svg")
    rows = list(csv.DictReader(StringIO(result.panels[0].csv.decode())))
    assert len(rows) == 3 * 200
    assert rows[0]["set"] == "(a) real points"
    coverage, difference = result.findings
    first = " and ".join(f"{share:.3f}" for share in run.coverage.values())
    assert f"Each: {first}; " in coverage
    assert "95 % interval" in difference
