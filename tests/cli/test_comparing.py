"""The commands `diversity` and `figure`: sets side by side, against real images and in pictures."""

import csv
import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import call, succeed, write_config

from dfshield.classifiers import load
from dfshield.datasets import load_images
from dfshield.diversity.features import TeacherFeatures
from dfshield.diversity.reference import Bins, Neighbours
from dfshield.storage import SurrogateDataset

REAL = ("--real", "digits")


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    """Two runs of one teacher: the finished one, and images made with fixed coefficients."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(finished / "runs" / "tiny", folder / "drawn")
    shutil.copytree(finished / "runs" / "tiny" / "teacher", folder / "fixed" / "teacher")
    fixed = {
        "name": "fixed",
        "storage__path": str(folder),
        "synthesis__coefficients__rule": "fixed",
    }
    succeed("synthesize", write_config(folder / "config", **fixed))
    return folder


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return runs


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.open()))


def size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(picture)) as image:
        return image.size


def test_sets_are_measured_against_real_images(here):
    answer = succeed("diversity", here / "drawn", here / "fixed", *REAL)
    found = json.loads(Path("diversity/diversity-teacher.json").read_text())
    assert found["data_free"] is False
    assert [each["name"] for each in found["sets"]] == ["fixed", "drawn"]  # DSS comes last
    teacher = load(here / "drawn" / "teacher")
    space = TeacherFeatures(model=teacher)
    images = load_images("digits", split="train").tensors()[0]
    real = torch.cat([space(images[n : n + 250]) for n in range(0, len(images), 250)])
    for each in found["sets"]:
        features = space(SurrogateDataset.open(here / each["name"] / "synthetic").load().images)
        expected = {**Neighbours().fit(real)(features), **Bins().fit(real)(features)}
        assert each["values"] == pytest.approx(expected, abs=1e-12)
    assert found["features"]["model"] == teacher.fingerprint()
    told = " ".join(answer.out.split())
    for said in ("features teacher (d 32)", "k 5", "num_bins 100", "N 1,097", "seed 0", "80"):
        assert said in told
    (fixed, drawn) = rows_of(Path("diversity/diversity-teacher.csv"))
    assert fixed["method"] == "dss, rule fixed"
    assert drawn["method"] == "dss"
    assert float(drawn["coverage"]) == found["sets"][1]["values"]["coverage"]
    assert (drawn["num_real"], drawn["num_images"], drawn["neighbours.k"]) == ("1097", "80", "5")
    assert size_of(Path("diversity/diversity-teacher.png").read_bytes())[0] > 500
    assert "Recall" in Path("diversity/diversity-teacher.svg").read_text()


def test_other_features_metrics_and_sizes(here):
    arguments = ("diversity", here / "drawn" / "synthetic", *REAL, "--features", "pixels")
    bins = ("--metric", "{name: bins, num_bins: 7}", "--num-images", 50, "--seed", 3)
    found = json.loads(succeed(*arguments, *bins, "--out", "there", "--json").out)
    assert found == json.loads(Path("there/diversity-pixels.json").read_text())
    assert list(found["scores"]) == ["ndb", "jsd"]
    assert found["features"] == {"name": "pixels", "dimensions": 64}
    assert found["metrics"] == [{"name": "bins", "num_bins": 7, "significance": 0.05}]
    assert (found["real"]["num_images"], found["sets"][0]["num_images"]) == (50, 50)
    again = succeed(*arguments, *bins, "--out", "there", "--json")
    assert json.loads(again.out) == found


def test_a_set_by_itself_needs_a_teacher_that_is_named(here, tmp_path):
    shutil.copytree(here / "drawn" / "synthetic", tmp_path / "alone")
    line = call("diversity", "alone", *REAL).refusal()
    assert line.startswith("Error: --teacher: no set lies in a run with a teacher: name a run")
    few = ("--metric", "neighbours", "--num-images", 40, "--json")
    found = json.loads(succeed("diversity", "alone", *REAL, "--teacher", here / "drawn", *few).out)
    assert not found["remarks"]
    student = here / "drawn" / "student"
    found = json.loads(succeed("diversity", "alone", *REAL, "--teacher", student, *few).out)
    assert found["remarks"] == ["made from another classifier than the features: alone"]


def test_the_grid_shows_the_images_themselves_and_dss_last(here):
    succeed("figure", "grid", here / "drawn", here / "fixed", "--per-class", 2)
    rows = rows_of(Path("figures/grid.csv"))
    assert list(dict.fromkeys(row["set"] for row in rows)) == ["fixed", "drawn"]
    data = SurrogateDataset.open(here / "drawn" / "synthetic").load()
    with Image.open("figures/grid.png") as picture:
        pixels = np.asarray(picture)
    for row in [row for row in rows if row["set"] == "drawn"][:3]:
        image = data.images[int(row["image"])]
        assert int(data.labels[int(row["image"])]) == int(row["class"])
        assert float(row["mean"]) == pytest.approx(float(image.mean()), abs=1e-6)
        assert places_of(pixels, np.rint(255 * image[0].numpy()).astype(np.uint8)) == 1
    svg = Path("figures/grid.svg").read_text()
    assert svg.index("fixed · dss, rule fixed · seed 0") < svg.index("drawn · dss · seed 0")
    assert svg.count("<image") == len(rows)


def places_of(picture: np.ndarray, image: np.ndarray) -> int:
    """How often an image, enlarged sevenfold, stands in a picture."""
    block = image.repeat(7, axis=0).repeat(7, axis=1)
    height, width = block.shape
    grey = picture[..., 0]
    corners = np.argwhere(grey[: -height + 1, : -width + 1] == block[0, 0])
    return sum(bool((grey[y : y + height, x : x + width] == block).all()) for y, x in corners)


def test_the_plane_is_that_of_the_real_images(here):
    succeed("figure", "pca", here / "fixed", here / "drawn", *REAL, "--features", "pixels")
    rows = rows_of(Path("figures/pca.csv"))
    names = list(dict.fromkeys(row["set"] for row in rows))
    assert names == ["digits (train)", "fixed", "drawn"]

    def points(name: str) -> np.ndarray:
        return np.array(
            [[float(r["component_1"]), float(r["component_2"])] for r in rows if r["set"] == name]
        )

    real = load_images("digits", split="train").tensors()[0].flatten(1).double()
    centred = real - real.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    expected = (centred @ directions[:2].T).numpy()
    assert np.allclose(np.abs(points("digits (train)")), np.abs(expected), atol=1e-3)
    data = SurrogateDataset.open(here / "drawn" / "synthetic").load()
    images = data.images.flatten(1).double() - real.mean(0)
    assert np.allclose(
        np.abs(points("drawn")), np.abs((images @ directions[:2].T).numpy()), atol=1e-3
    )
    assert size_of(Path("figures/pca.png").read_bytes())[1] > 1000
    assert "component 1 of real pixels features" in Path("figures/pca.svg").read_text()


@pytest.fixture
def odd(here, tmp_path):
    """Real images of another size, and of more channels."""
    labels = np.arange(30) % 10
    for name, shape in (("large", (30, 9, 9)), ("colour", (30, 8, 8, 3))):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels)
    return here


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", *REAL], "nowhere: no surrogate data set here, nor in its synthetic/"),
        (["{}/drawn", "{}/drawn", *REAL], "/drawn/synthetic: is named twice"),
        (["{}/drawn", "--real", "digit"], "--real: 'digit' is no data set: give digits"),
        (["{}/drawn", *REAL, "--split", "tain"], "--real: split: 'tain' is unknown: did you mean"),
        (["{}/drawn", "--real", "large.npz"], "--real: the images of npz are 9x9, those of drawn"),
        (["{}/drawn", "--real", "colour.npz"], "images have 3 channels where 1 are wanted"),
        (["{}/drawn", *REAL, "--features", "pixel"], "--features: name: feature space 'pixel' is"),
        (["{}/drawn", *REAL, "--features", "vgg16"], "--features: weights: is missing, which vgg"),
        (
            ["{}/drawn", *REAL, "--features", "{name: vgg16, weights: no.pth}"],
            "--features: no.pth: no such weights file",
        ),
        (["{}/drawn", *REAL, "--features", "{name: ["], "--features: not valid YAML"),
        (["{}/drawn", *REAL, "--features", "pixels", "--teacher", "x"], "need none: leave it out"),
        (["{}/drawn", *REAL, "--teacher", "nowhere"], "--teacher: "),
        (["{}/drawn", *REAL, "--metric", "ndb"], "--metric: name: metric against real images 'nd"),
        (["{}/drawn", *REAL, "--metric", "{name: bins, bins: 3}"], "--metric: bins: is no option"),
        (
            ["{}/drawn", *REAL, "--num-images", "99"],
            "--real: digits: 99 images, but bins (num_bins 100, significance 0.05) needs at least",
        ),
        (
            ["{}/drawn", *REAL, "--metric", "{name: neighbours, k: 80}"],
            "drawn: 80 images, but neighbours (k 80) needs at least 81",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(odd, arguments, said):
    line = call(
        "diversity", *(argument.replace("{}", str(odd)) for argument in arguments)
    ).refusal()
    assert said in line
    assert not Path("diversity").exists()


def test_sets_of_two_shapes_and_unfinished_ones_are_refused(here, tmp_path):
    shutil.copytree(here / "drawn" / "synthetic", tmp_path / "less")
    next((tmp_path / "less" / "data").rglob("*.parquet")).unlink()
    line = call("figure", "grid", "less").refusal()
    assert "less: 1 of its 2 parts are missing in" in line
    shutil.copytree(here / "drawn" / "synthetic", tmp_path / "other")
    file = tmp_path / "other" / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "image_shape": [1, 4, 16]}))
    line = call("figure", "grid", here / "drawn", "other").refusal()
    assert "other: has images of 1x4x16, but those of drawn are 1x8x8" in line


def test_every_seed_of_a_run_is_a_set(tmp_path, here):
    many = tmp_path / "many"
    for seed in (0, 1):
        shutil.copytree(here / "drawn" / "synthetic", many / f"seed-{seed}" / "synthetic")
    shutil.copytree(here / "drawn" / "teacher", many / "teacher")
    few = ("--metric", "neighbours", "--num-images", 30, "--json")
    found = json.loads(succeed("diversity", many, *REAL, *few).out)
    assert [each["name"] for each in found["sets"]] == ["many, seed 0", "many, seed 1"]


def test_the_page_of_a_run_has_the_distances_of_its_own_features(tmp_path, finished):
    config = write_config(tmp_path)
    shutil.copytree(finished / "runs" / "tiny", tmp_path / "runs" / "tiny")
    succeed("report", config, "synthesis.diversity=[feature-distances]")
    page = (tmp_path / "runs" / "tiny" / "report" / "index.html").read_text()
    assert "Mean feature distance" in page
    assert "Least feature distance" in page
