"""Pages, planes and bars of several sets: what they hold, and what they refuse."""

from io import BytesIO
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from dfshield.errors import InputError
from dfshield.report.sets import (
    ImageRow,
    PlaneView,
    PointsView,
    SetImages,
    image_page,
    image_table,
    plane_figure,
    plane_table,
    score_bars,
    score_table,
    settings_line,
)


def images(name, *, shape=(1, 8, 8), classes=3, per_class=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = tuple(
        ImageRow(
            label,
            f"class {label}",
            tuple(
                {"index": n, "answer": label, "pixels": rng.random(shape, dtype=np.float32)}
                for n in range(per_class)
            ),
        )
        for label in range(classes)
    )
    return SetImages(name, "dss, rule <fixed>", seed, rows)


def size(png):
    with Image.open(BytesIO(png)) as picture:
        return picture.size


def test_png_and_svg_of_a_page_are_of_one_size_and_hold_all_images():
    page = image_page([images("one"), images("two", seed=1)], per_class=2)
    svg = ET.fromstring(page.svg())
    assert size(page.png()) == (int(svg.get("width")), int(svg.get("height")))
    assert page.png() == page.png()
    drawn = svg.findall(".//{*}image")
    assert len(drawn) == 12
    assert {each.get("width") for each in drawn} == {"56"}  # one scale
    texts = [each.text for each in svg.findall(".//{*}text")]
    assert "one · dss, rule <fixed> · seed 0" in texts
    assert any("contrast not stretched" in text for text in texts)
    assert texts.count("class 0") == 1  # names of classes stand there once
    right = max(int(each.get("x")) + 56 for each in drawn)
    assert right <= page.width
    assert max(int(each.get("y")) + 56 for each in drawn) <= page.height


def test_a_page_says_what_it_leaves_out_and_whether_it_stretches():
    page = image_page([images("many", classes=30)], per_class=2, stretch=True)
    texts = [text.text for text in page.texts]
    assert "first 20 of 30 classes" in texts
    assert any("contrast stretched per image" in text for text in texts)
    assert len(page.cells) == 40
    assert all(cell.pixels.min() == 0 and cell.pixels.max() == 255 for cell in page.cells)


def test_a_table_has_a_row_for_every_image():
    lines = image_table([images("one"), images("two")]).decode().splitlines()
    assert lines[0] == "set,method,seed,class,place,image,answer,min,mean,max"
    assert len(lines) == 13
    assert lines[1].startswith('one,"dss, rule <fixed>",0,0,0,0,0,0.')


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([images("one"), images("two", shape=(1, 9, 9))], "images of one shape are needed"),
        ([images("one", shape=(2, 8, 8))], "images of 2 channels cannot be shown"),
        ([images("one", classes=0)], "images of one shape are needed"),
    ],
)
def test_images_that_do_not_go_together_are_refused(sets, said):
    with pytest.raises(InputError, match=said):
        image_page(sets, per_class=2)


def plane_of(*names):
    rng = np.random.default_rng(0)

    def points(name, n=50):
        return PointsView(name, "dss", 0, 90, np.arange(n) % 3, rng.normal(size=(n, 2)))

    return PlaneView(points("real", 80), tuple(map(points, names)), (0.5, 0.25), 4)


def test_a_plane_has_a_panel_a_set():
    one, two = (plane_figure(plane_of(*sets), "pixels")["png"] for sets in ("a", "ab"))
    assert size(two)[1] > 1.9 * size(one)[1]
    assert one == plane_figure(plane_of("a"), "pixels")["png"]
    svg = plane_figure(plane_of("a", "$b_"), "pixels")["svg"].decode()
    assert "$b_ · dss · seed 0" in svg
    assert "a, 50 of 90 images" in svg
    assert "Fitted on the pixels of 90 real images alone; images are drawn with seed 4." in svg
    assert "component 2 of real pixels, 25% of variance" in svg
    assert len(svg) < 500_000
    lines = plane_table(plane_of("a")).decode().splitlines()
    assert len(lines) == 1 + 80 + 50


def measured(**values):
    score = {"better": "higher", "description": ""}
    return {
        "real": {"name": "digits", "split": "train", "num_images": 1097},
        "features": {"name": "pixels", "dimensions": 64},
        "metrics": [{"name": "neighbours", "k": 5}, {"name": "bins", "num_bins": 100}],
        "seed": 3,
        "scores": {
            "recall": {**score, "title": "Recall", "unit": "share"},
            "ndb": {**score, "title": "NDB", "unit": "bins", "better": "lower"},
        },
        "sets": [
            {"name": name, "method": "dss", "seed": 0, "num_images": 80, "values": each}
            for name, each in values.items()
        ],
    }


def test_bars_and_table_tell_every_figure():
    found = measured(one={"recall": 0.25, "ndb": 12.0}, two={"recall": 0.0, "ndb": 0.0})
    svg = score_bars(found)["svg"].decode()
    for said in (
        *("0.250", ">12<", "one, M 80", "features pixels (d 64), k 5, num_bins 100"),
        *("NDB, bins (lower is better)", "Recall (higher is better)"),
    ):
        assert said in svg
    assert score_bars(found) == score_bars(found)
    head, one, _ = score_table(found).decode().splitlines()
    assert dict(zip(head.split(","), one.split(","), strict=True))["bins.num_bins"] == "100"
    assert settings_line(found) == (
        "features pixels (d 64), k 5, num_bins 100, N 1,097 real images of digits (train), seed 3"
    )
