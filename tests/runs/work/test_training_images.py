"""Images that the teacher was trained on are told from others by what they show."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import run_of, stamps, succeed, write_config

from dfshield.datasets import ImageSet, image_hashes, load_images


def images_of(pixels, **options):
    labels = np.zeros(len(pixels), int)
    return ImageSet(pixels, labels, ("a", "b"), "npz", "test", **options)


def test_a_hash_is_of_what_an_image_shows():
    grey = np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)
    hashes = image_hashes(images_of(grey))
    assert len(set(hashes)) == 5
    assert image_hashes(images_of(grey / np.float32(255))) == hashes
    assert image_hashes(images_of(grey / 255.0)) == hashes
    assert image_hashes(images_of(np.repeat(grey[..., None], 3, axis=3))) == hashes
    assert image_hashes(images_of(grey).with_channels(3)) == hashes
    assert not set(image_hashes(images_of(grey.transpose(0, 2, 1)))) & set(hashes)
    assert image_hashes(images_of(grey[[2, 2]])) == [hashes[2]] * 2
    colour = np.stack([grey, grey, grey // 2], axis=3)
    assert not set(image_hashes(images_of(colour))) & set(hashes)


@pytest.fixture
def digits(tmp_path):
    """The training split of the digits as a file without splits."""
    found = load_images("digits", split="train")
    pixels = (found.pixels[:400] * 255).astype(np.uint8)
    path = tmp_path / "all.npz"
    np.savez(path, images=pixels, labels=found.labels[:400])
    return path, pixels, found.labels[:400]


def run_on(folder, training, evaluation):
    config = write_config(
        folder,
        teacher__train={"data": training, "epochs": 1},
        evaluation__data=evaluation,
        evaluation__num_images=None,
    )
    return config, succeed("teacher", config)


def evaluated(config):
    answer = succeed("evaluate", config, "evaluation.models=[teacher]", "--json")
    return json.loads(answer.out)["results"], answer


def test_one_file_for_both_is_said_everywhere(tmp_path, digits):
    path, _, _ = digits
    data = {"name": "npz", "path": str(path)}
    config, trained = run_on(tmp_path, data, data)
    said = "measured on training images: 360 of the 400"
    assert said in trained.err
    succeed("run", config, "synthesis.num_images=40", "synthesis.iterations=2")
    run = run_of(config)
    table = succeed("evaluate", config, *SHORT)
    assert said in table.err
    assert "measured on training images: 360" in " ".join(table.out.split())
    results, _ = evaluated(config)
    assert {r["data"]["trained_on"] for r in results} == {360}
    assert all(said in r["data"]["remarks"][0] for r in results)
    card, page = (run / "student/README.md").read_text(), (run / "report/index.html").read_text()
    assert said in card
    assert "took no part" not in card
    assert said in page
    assert "360 of the 400 images of npz (test) are training images" in page
    held_back = [*SHORT, "evaluation.data.split=val", "--json"]
    answer = succeed("evaluate", config, *held_back)
    (remark,) = json.loads(answer.out)["results"][0]["data"]["remarks"]
    assert remark.startswith("40 of the 40 images chose the teacher's epoch")


SHORT = ("synthesis.num_images=40", "synthesis.iterations=2")


@pytest.mark.parametrize("kind", ["another file", "folder", "duplicates"])
def test_the_same_images_elsewhere_are_found(tmp_path, digits, kind):
    path, _, _ = digits
    train = {"name": "npz", "path": str(path)}
    seen = load_images("npz", split="train", path=path)
    fresh = load_images("digits").pixels[:10, :, :, 0]
    shown = np.concatenate([seen.pixels[:30, :, :, 0] / np.float32(255), fresh])
    marks = np.concatenate([seen.labels[:30], load_images("digits").labels[:10]])
    other, number = tmp_path / "other.npz", 30
    data = {"name": "npz", "path": str(other)}
    if kind == "folder":
        for row, label in enumerate(marks):
            (tmp_path / "tree" / str(label)).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.rint(shown[row] * 255).astype(np.uint8))
            image.save(tmp_path / "tree" / str(label) / f"{row}.png")
        data = {"name": "folder", "path": str(tmp_path / "tree")}
    elif kind == "duplicates":
        shown, marks, number = np.concatenate([shown, shown[:5]]), np.append(marks, marks[:5]), 35
    np.savez(other, images=shown, labels=marks)
    config, trained = run_on(tmp_path, train, data)
    results, answer = evaluated(config)
    assert results[0]["data"]["trained_on"] == number
    told = f"{number} of the {len(marks)}"
    assert told in trained.err
    assert told in answer.err
    assert "name images in evaluation.data" in answer.err


def test_images_that_are_new_need_no_word(tiny):
    config = tiny()
    answer = succeed("evaluate", config, "--json")
    results = json.loads(answer.out)["results"]
    assert {r["data"]["trained_on"] for r in results} == {0}
    assert all(r["data"]["remarks"] == [] for r in results)
    assert "Note:" not in answer.err
    assert (
        "took no part in synthesis or training"
        in (run_of(config) / "student/README.md").read_text()
    )


def test_a_result_from_before_is_told_on_and_not_measured_again(tmp_path, digits):
    path, _, _ = digits
    data = {"name": "npz", "path": str(path)}
    config, _ = run_on(tmp_path, data, data)
    results, _ = evaluated(config)
    folder = run_of(config) / "evaluation"
    before = stamps(folder)
    for file in folder.glob("*.json"):
        content = json.loads(file.read_text())
        for key in ("trained_on", "chosen_on", "remarks"):
            del content["data"][key]
        file.write_text(json.dumps(content))
    again, _ = evaluated(config)
    assert again == results
    rows = {name for name in before if name.endswith(".parquet") or name.startswith("slices")}
    assert rows
    assert all(stamps(folder)[name] == before[name] for name in rows)


def test_training_images_that_are_gone_leave_it_open(tmp_path, digits):
    path, _, _ = digits
    config, _ = run_on(tmp_path, {"name": "npz", "path": str(path)}, {"name": "digits"})
    path.unlink()
    results, answer = evaluated(config)
    assert results[0]["data"]["trained_on"] is None
    assert "Not known whether the teacher was trained on these images" in answer.err
