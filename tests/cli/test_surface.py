"""The command `figure surface`: the loss around the weights of models, as picture and numbers."""

import csv
import json
import re
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import call, succeed

SMALL = ("--data", "digits", "--points", "5", "--num-images", "20", "--num-steps", "2")


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return finished / "runs" / "tiny"


def test_student_and_teacher_side_by_side(here):
    answer = succeed("figure", "surface", here, here / "teacher", *SMALL, "--eps", "0.1")
    told = json.loads(Path("figures/surface.json").read_text())
    assert told["data_free"] is False
    assert [m["name"] for m in told["models"]] == [str(here), str(here / "teacher")]
    rows = list(csv.DictReader(StringIO(Path("figures/surface.csv").read_text())))
    assert len(rows) == 2 * 5 * 5
    for model in told["models"]:
        (centre,) = [
            float(r["loss"])
            for r in rows
            if r["model"] == model["name"] and float(r["u"]) == float(r["v"]) == 0
        ]
        assert model["loss"] == centre
        assert f"{model['name']}: cross-entropy under PGD-2 {centre:.3g}" in answer.out
    with Image.open(BytesIO(Path("figures/surface.png").read_bytes())) as picture:
        assert picture.height > picture.width > 500
    assert Path("figures/surface.svg").exists()


def test_rows_that_are_done_are_not_computed_again(here):
    command = ("figure", "surface", here, *SMALL)
    succeed(*command)
    first = Path("figures/surface.csv").read_bytes()
    kept = sorted(Path("figures/surface-rows").rglob("*.json"))
    assert len(kept) == 5
    kept[2].unlink()
    others = {path: path.stat().st_mtime_ns for path in kept if path.exists()}
    succeed(*command)
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert Path("figures/surface.csv").read_bytes() == first
    kept[1].write_text("[1, 2]")
    assert f"{kept[1].name}: is damaged: delete it" in call(*command).refusal()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--points", "4"), "--points: 4 must be odd"),
        (("--span", "0"), "--span: 0 must be a number above 0"),
        (("--eps", "8"), '--eps: .* did you mean "8/255"'),
        (("--norm", "l1"), "norm: 'l1'"),
        (("--data", "nothing"), "--data: 'nothing' is no data set"),
    ],
)
def test_what_makes_no_sense_is_one_line(here, changes, words):
    assert re.search(words, call("figure", "surface", here, *SMALL, *changes).refusal())


def test_a_folder_without_a_model_is_named(here, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no classifier" in call("figure", "surface", "empty", *SMALL).refusal()


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_give_the_surface_of_one_process(here):
    succeed("figure", "surface", here, *SMALL, "--out", "one")
    succeed("figure", "surface", here, *SMALL, "--out", "two", "--cluster", "local")
    assert Path("one/surface.csv").read_bytes() == Path("two/surface.csv").read_bytes()
