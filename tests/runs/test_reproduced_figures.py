"""Figures of the paper, drawn small, and tables of images: all share the sets of one sweep."""

import csv
import json
from io import BytesIO, StringIO

import pytest
import torch
from PIL import Image
from tiny_reproduction import SMALL

from dfshield.datasets import load_images
from dfshield.diversity.features import FEATURE_SPACES
from dfshield.diversity.reference import REFERENCE
from dfshield.errors import InputError
from dfshield.experiments import Picture, experiment, scale
from dfshield.runs import InProcessExecutor, SilentObserver
from dfshield.runs.inputs.classifier_folder import load
from dfshield.runs.inputs.surrogate_sets import surrogate_sets
from dfshield.runs.reproduction import missing_files, reproduce, reproduction
from dfshield.runs.sweep import InProcessRunner, Sweep
from dfshield.runs.work.features import features_of


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    place = tmp_path_factory.mktemp("figures")

    def drawn(name, *, only=(), **changes):
        one = experiment(name).model_copy(update=changes)
        overrides = (*SMALL, f"storage.path={place}")
        found = reproduction(one, scale("smoke"), only=only, overrides=overrides)
        executor = InProcessExecutor()
        sweep = Sweep(found.config, executor=executor, runner=InProcessRunner(executor))
        command = f"dfshield reproduce {name}"
        result, folder = reproduce(found, lambda: sweep, observer=sweep.observer, command=command)
        assert folder.exists("index.html")
        for panel in getattr(result, "panels", ()):
            with Image.open(BytesIO(panel.png)) as picture:
                assert min(picture.size) > 100
            assert panel.svg.startswith(b"<")
        page = (place / "reproduce-smoke" / "reproduced" / "index.html").read_text()
        assert f'"{name}/index.html"' in page
        return result, place / "reproduce-smoke"

    return drawn


def rows(result):
    (panel,) = result.panels
    return list(csv.DictReader(StringIO(panel.csv.decode())))


def students(place):
    return sorted(path.name for path in place.glob("sweeps/cells/trials/*"))


def test_images_are_shown_without_a_student(draw):
    result, place = draw("fig-9", only=["DSS"])
    of_grid = {row["set"] for row in rows(result)}
    assert of_grid == {"DSS"}
    assert not students(place)

    cases = experiment("fig-8").cases["coefficients"]
    two = {"coefficients": {name: cases[name] for name in ("no class term", "DSS")}}
    result, place = draw("fig-8", cases=two)
    assert {row["set"] for row in rows(result)} == {"digits (train)", "no class term", "DSS"}
    assert not students(place)
    assert "Drawn with num images 1,000." in result.notes
    told = json.loads((place / "reproduced" / "fig-8" / "figure.json").read_bytes())
    assert told["files"] == [f"digits-resnet8.{form}" for form in ("png", "svg", "csv")]


def test_students_are_shared_and_their_set_grows(draw):
    # What was made for the figures above has 60 images.
    result, place = draw("fig-5", values={"num_images": {"smoke": (60, 100)}})
    assert [row["num_images"] for row in rows(result)] == ["60", "100"]
    assert all(0 <= float(row["PGD-10"]) <= float(row["clean"]) <= 100 for row in rows(result))

    # The student of 60 images, as the scale has it, is the one of another figure.
    small = Picture(
        kind="surfaces", options={"points": 3, "num_images": 10, "num_steps": 1, "span": 1.0}
    )
    result, place = draw("fig-4", only=["L_DFShield", "with GradRefine"], picture=small)
    assert len(students(place)) == 2
    assert len(rows(result)) == 9
    (line,) = result.findings
    assert line.startswith("L_DFShield, with GradRefine: cross-entropy under PGD-1 ")


def test_a_table_of_images_tells_how_they_cover_the_real_ones(draw):
    result, place = draw("table-20", only=["+ DSS"])
    (row,) = result.rows
    assert tuple(result.metrics[-4:]) == ("recall", "coverage", "ndb", "jsd")
    figures = {figure.metric: figure for figure in row.figures}
    (known,) = surrogate_sets([str(place / "synthetic")])
    real = load_images("digits", split="train").tensors()[0]
    space = FEATURE_SPACES.make("teacher", model=load(place / "teacher"))
    device, observer = torch.device("cpu"), SilentObserver()
    of_real, of_set = (
        features_of(images, space, device=device, observer=observer, title="")
        for images in (real, known.data.load().images)
    )
    scores = REFERENCE.make("neighbours").fit(of_real, seed=0)(of_set)
    assert {m: figures[m].ours.per_seed for m in scores} == {m: (v,) for m, v in scores.items()}
    ours, theirs, difference = figures["coverage"].words
    assert (ours, theirs, difference) == (f"{scores['coverage']:.3f}", "0.320", "–")
    assert figures["ndb"].words[0].isdigit()
    (line,) = [note for note in result.notes if note.startswith("Surrogate images: ")]
    assert "features teacher" in line
    assert "k 5" in line


@pytest.mark.drill
def test_a_matrix_has_a_row_a_teacher(draw):
    own = {"digits": experiment("fig-1").cases["trained_on"]["digits"]}
    result, _ = draw("fig-1", data=("digits",), cases={"trained_on": own})
    (row,) = rows(result)
    assert (row["data"], row["trained_on"], row["state"]) == ("digits", "digits", "done")


def test_a_scale_without_its_data_sets_is_refused():
    with pytest.raises(InputError, match="--scale: desk has nothing that fig-1 is run on"):
        reproduction(experiment("fig-1"), scale("desk"))


def test_real_images_of_a_plane_are_missed_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("DFSHIELD_DATA", str(tmp_path))
    missing = missing_files([reproduction(experiment("fig-8"), scale("desk"))])
    assert any("cifar10_train_5000.npz" in line for line in missing)
