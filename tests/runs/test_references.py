"""Trainings on real images: what they are trained on, and that nothing calls them data-free."""

import json

import numpy as np
import pytest
import torch
import yaml
from tiny_run import call, contents, events, run_of, succeed

from dfshield.classifiers import describe
from dfshield.config import ReferenceImages
from dfshield.datasets import load_images
from dfshield.errors import DfshieldError
from dfshield.results import NOT_DATA_FREE
from dfshield.runs.inputs.classifier_folder import load
from dfshield.runs.inputs.reference_images import reference_set
from dfshield.runs.work.reference_parts import ReferenceReader
from dfshield.training import AdversarialTrainer

SHORT = {
    "training__inner": {"num_steps": 2},
    "evaluation__attacks": [{"name": "pgd", "num_steps": 1}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eighty of the teacher's own images, and sixty of another kind: 10x12, in colour."""
    folder = tmp_path_factory.mktemp("files")
    digits = load_images("digits", split="train")
    pixels = np.rint(255 * digits.pixels[:80]).astype(np.uint8)
    np.savez(folder / "own.npz", images=pixels, labels=digits.labels[:80])
    rng = np.random.default_rng(0)
    other = rng.integers(0, 256, (60, 10, 12, 3), dtype=np.uint8)
    np.savez(folder / "other.npz", images=other, labels=rng.integers(0, 17, 60))
    return folder


def reference(path, labels, split="test"):
    return {"data": {"name": "npz", "path": str(path), "split": split}, "labels": labels}


@pytest.fixture
def original(files, tiny):
    """A function that gives a configuration with a teacher, to be trained on its own images."""

    def make(**changes):
        images = {"training__images": reference(files / "own.npz", "hard")}
        return tiny(
            keep=("teacher",), **{**SHORT, **images, "training__objective": "std"}, **changes
        )

    return make


def test_original_is_trained_on_real_images_and_every_output_says_so(original):
    config = original()
    answer = succeed("run", config, "--json")
    run = run_of(config)
    assert f"Warning: {NOT_DATA_FREE}" in " ".join(answer.err.split())
    assert not (run / "synthetic").exists()
    assert describe(run / "student").data_free is False
    assert json.loads((run / "student" / "config.json").read_text())["data_free"] is False
    told = {r["model"]: r for r in json.loads(answer.out)["results"]}
    assert told["student"]["data_free"] is False
    assert NOT_DATA_FREE in told["student"]["notes"]
    assert told["teacher"]["data_free"] is None
    card = (run / "student" / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["data_free"] is False
    assert "data-free" not in head["tags"]
    page = " ".join((run / "report" / "index.html").read_text().split())
    for text in (" ".join(card.split()), page):
        assert NOT_DATA_FREE in text
        assert "80 images of npz" in text or "80 of npz" in text
        assert "touched a real image" not in text
        assert "without its training data" not in text
    succeed("run", config)
    assert len(events(run, "training_started")) == 1


def test_what_is_made_from_the_teacher_alone_is_data_free(finished):
    run = finished / "runs" / "tiny"
    assert describe(run / "student").data_free is True
    assert describe(run / "teacher").data_free is None
    head = yaml.safe_load((run / "student" / "README.md").read_text().split("---\n")[1])
    assert head["data_free"] is True
    results = [json.loads(f.read_text()) for f in (run / "evaluation").glob("student-*.json")]
    assert {result["data_free"] for result in results} == {True}


def test_a_reference_that_is_cut_off_ends_with_the_same_student(original, monkeypatch):
    whole, cut = original(name="whole"), original(name="cut")
    succeed("train", whole)
    with monkeypatch.context() as patch:
        step = AdversarialTrainer.step

        def fails(trainer):
            if trainer.updates_done == 3:
                raise DfshieldError("power cut")
            return step(trainer)

        patch.setattr(AdversarialTrainer, "step", fails)
        assert "power cut" in call("train", cut).refusal(code=3)
    succeed("train", cut)
    (_, resumed) = events(run_of(cut), "training_started")
    assert resumed["updates"] == 3
    assert contents(run_of(cut) / "student") == contents(run_of(whole) / "student")


def test_public_images_are_resized_and_have_the_teachers_answers(files, tiny, finished):
    images = reference(files / "other.npz", "teacher")
    config = tiny(keep=("teacher",), **SHORT, training__images=images, training__epochs=1)
    answer = succeed("train", config)
    said = ["colour made grey (BT.601)", "resized from 10x12 to 8x8 (bilinear, antialiased)"]
    for remark in said:
        assert f"training.images.data: {remark}" in " ".join(answer.err.split())
    record = json.loads((run_of(config) / "student" / "stage.json").read_text())
    assert record["summary"]["reference"]["remarks"] == said
    assert record["identity"]["images"]["labels"] == "teacher"
    assert "surrogate" not in record["identity"]


@pytest.mark.parametrize(("file", "labels"), [("own", "hard"), ("other", "teacher")])
def test_the_reader_gives_what_the_teacher_says_of_the_images(files, finished, file, labels):
    teacher = load(finished / "runs" / "tiny" / "teacher")
    section = ReferenceImages.model_validate(reference(files / f"{file}.npz", labels))
    images = reference_set(section, teacher)
    found = ReferenceReader(images, teacher, seed=0).load("data")
    assert len(ReferenceReader(images, teacher, seed=0).load("holdout")) == 0
    with torch.no_grad():
        logits = teacher(images.pixels(slice(None)))
    torch.testing.assert_close(found.teacher_logits, logits, rtol=1e-4, atol=1e-4)
    stored = load_images("npz", path=files / f"{file}.npz")
    if labels == "hard":
        assert found.images.dtype == torch.uint8
        assert torch.equal(found.labels, torch.from_numpy(stored.labels))
        assert torch.equal(found.images[:, 0], torch.from_numpy(stored.pixels[..., 0]))
    else:
        assert torch.equal(found.labels, logits.argmax(dim=1))
        assert found.images.shape == (60, 1, 8, 8)
        grey = stored.pixels.astype(np.float64) @ (0.299, 0.587, 0.114) / 255
        means = found.images.double().mean(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(means, grey.mean(axis=(1, 2)), atol=0.03)


def test_a_reference_that_is_done_needs_its_images_no_more(original, files, tmp_path):
    config = original()
    (tmp_path / "own.npz").write_bytes((files / "own.npz").read_bytes())
    moved = f"training.images.data.path={tmp_path / 'own.npz'}"
    succeed("train", config, moved)
    (tmp_path / "own.npz").unlink()
    succeed("evaluate", config, moved)
    line = call("train", config, moved, "training.images.labels=teacher").refusal()
    assert "images.labels: hard → teacher" in line


@pytest.mark.parametrize(
    ("images", "changes", "said"),
    [
        (("own.npz", "soft"), {}, "training.images.labels"),
        (("other.npz", "hard"), {}, "has 17 classes, the classifier has 10"),
        (("nowhere.npz", "hard"), {}, "training.images.data: "),
        (("own.npz", "hard"), {"training__select": "holdout"}, "training: select: holdout"),
        (("own.npz", "hard"), {"training__data": "elsewhere"}, "training: images: not beside data"),
        (("own.npz", "hard"), {"training__batch_size": 79}, "training.batch_size: 79"),
        (("own.npz", "hard"), {"training__gradrefine": {"num_batches": 9}}, "num_batches: 9"),
        (
            ("own.npz", "hard", "train"),
            {"evaluation__data": {"name": "npz", "path": "own.npz"}},
            "72 of the 80 test images",
        ),
        (
            ("own.npz", "hard"),
            {"evaluation__data": {"name": "npz", "path": "own.npz"}},
            "training.images.data: is the split that evaluation.data measures on",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line_before_any_training(files, tiny, images, changes, said):
    path, *others = images
    if "evaluation__data" in changes:
        at = {"name": "npz", "path": str(files / "own.npz")}
        changes = {**changes, "evaluation__data": at, "evaluation__num_images": None}
    config = tiny(
        keep=("teacher",), **SHORT, training__images=reference(files / path, *others), **changes
    )
    line = call("train", config).refusal()
    assert said in line
    assert not (run_of(config) / "student").exists()


def test_a_student_is_not_measured_on_what_it_was_trained_on(original, files):
    config = original()
    succeed("train", config)
    measured = [f"evaluation.data={{name: npz, path: {files / 'own.npz'}, split: val}}"]
    line = call("evaluate", config, *measured, "evaluation.num_images=null").refusal()
    assert "8 of the 8 test images (evaluation.data) are among them" in line
