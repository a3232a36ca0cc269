"""Image folders, written here through Pillow."""

import numpy as np
import pytest
from PIL import Image

from dfshield.datasets import load_images
from dfshield.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 7, 5, 3), dtype=np.uint8)


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def tree(tmp_path):
    # Written out of order, with several loss-free formats.
    put(tmp_path / "dog/b.bmp", COLOUR[4])
    put(tmp_path / "cat/z.TIF", COLOUR[2])
    put(tmp_path / "cat/10.png", COLOUR[0])
    put(tmp_path / "cat/9.tiff", COLOUR[1])
    put(tmp_path / "dog/a.png", COLOUR[3])
    put(tmp_path / "yak/only.ppm", COLOUR[5])
    (tmp_path / "cat/notes.txt").write_text("left out")
    put(tmp_path / "cat/.hidden.png", COLOUR[5])
    put(tmp_path / ".cache/x.png", COLOUR[5])
    return tmp_path


def test_classes_and_images_follow_in_alphabetical_order(tree):
    images = load_images("folder", path=tree)
    assert images.class_names == ("cat", "dog", "yak")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert np.array_equal(images.pixels, COLOUR)
    assert images.input_shape == (3, 7, 5)
    train, val = (load_images("folder", split=one, path=tree) for one in ("train", "val"))
    assert (len(train), len(val)) == (5, 1)
    both = np.concatenate([train.pixels, val.pixels])
    assert sorted(one.tobytes() for one in both) == sorted(one.tobytes() for one in COLOUR)


def test_splits_share_their_class_numbers(tmp_path):
    put(tmp_path / "train/ant/a.png", COLOUR[0])
    put(tmp_path / "train/bee/a.png", COLOUR[1])
    put(tmp_path / "test/bee/a.png", COLOUR[2])
    test = load_images("folder", split="test", path=tmp_path)
    assert test.class_names == ("ant", "bee")
    assert test.labels.tolist() == [1]
    train, val = (load_images("folder", split=one, path=tmp_path) for one in ("train", "val"))
    assert sorted([*train.labels, *val.labels]) == [0, 1]
    assert train.class_names == val.class_names == test.class_names
    put(tmp_path / "val/bee/a.png", COLOUR[3])
    assert load_images("folder", split="train", path=tmp_path).labels.tolist() == [0, 1]
    assert np.array_equal(load_images("folder", split="val", path=tmp_path).pixels, COLOUR[3:4])


def test_grey_one_bit_palette_and_jpeg(tmp_path):
    grey = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    put(tmp_path / "a/x/1.png", grey)
    put(tmp_path / "a/x/2.png", grey > 127)
    images = load_images("folder", path=tmp_path / "a")
    assert images.input_shape == (1, 8, 8)
    assert np.array_equal(images.pixels[0, ..., 0], grey)
    assert np.array_equal(images.pixels[1, ..., 0], np.where(grey > 127, 255, 0))
    flat = np.full((8, 8, 3), 128, dtype=np.uint8)
    put(tmp_path / "b/x/1.jpg", flat)
    Image.fromarray(flat).quantize(4).save(tmp_path / "b/x/2.png")
    images = load_images("folder", path=tmp_path / "b")
    assert np.abs(images.pixels.astype(int) - 128).max() <= 2


@pytest.mark.parametrize(
    ("pixels", "options", "said"),
    [
        (np.zeros((9, 5, 3), np.uint8), {}, r"odd\.png: is 5x9 but .*10\.png is 5x7"),
        (np.zeros((7, 5), np.uint8), {}, r"odd\.png: is grey but .*10\.png is colour"),
        (np.zeros((7, 5, 4), np.uint8), {}, "odd.png: has mode RGBA"),
        (np.zeros((7, 5, 2), np.uint8), {}, "odd.png: has mode LA"),
        (np.zeros((7, 5), np.uint16), {}, "odd.png: has mode I;16"),
        (np.zeros((7, 5, 3), np.uint8), {"transparency": (0, 0, 0)}, "odd.png: has mode RGB"),
    ],
)
def test_images_that_do_not_fit_are_named(tree, pixels, options, said):
    put(tree / "dog/odd.png", pixels, **options)
    with pytest.raises(InputError, match=said) as caught:
        load_images("folder", path=tree)
    assert "\n" not in str(caught.value)


def test_several_frames_are_refused(tree):
    frames = [Image.fromarray(one) for one in COLOUR[:2]]
    frames[0].save(tree / "dog/odd.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"odd\.tif: has several frames"):
        load_images("folder", path=tree)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "webp"])
def test_damaged_images_give_one_line(tmp_path, extension):
    file = tmp_path / f"x/a.{extension}"
    put(file, RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    whole = file.read_bytes()
    for cut in [0, 3, len(whole) // 3, len(whole) * 2 // 3]:
        file.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot be read as an image") as caught:
            load_images("folder", path=tmp_path)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("x")
    put(tmp_path / "loose.png", COLOUR[0])
    with pytest.raises(InputError, match="has no images in class folders"):
        load_images("folder", path=tmp_path)
    with pytest.raises(InputError, match="is a file: wanted a folder"):
        load_images("folder", path=tmp_path / "loose.png")
