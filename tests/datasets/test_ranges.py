"""Images of another range are refused with how to write them, and never scored as black ones."""

import re

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dfshield.datasets import load_images
from dfshield.errors import InputError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
UNIT = BYTES / 255


def archive(tmp_path, images, **arrays):
    path = tmp_path / "a.npz"
    np.savez(path, images=images, labels=np.arange(len(images)) % 2, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ((UNIT > 0.5).astype(np.uint8), "uint8 images hold only 0 and 1, where 255 is white"),
        (UNIT.round().astype(np.uint8), "only 0 and 1, .*write images * 255, or the floats"),
        (UNIT.astype(np.uint8), "uint8 images hold only 0 and 1"),
        ((UNIT > 0.5).astype(np.int64), "int64: .* write images.astype(numpy.uint8) * 255, or"),
        (UNIT > 0.5, "images are bool: .* write images.astype(numpy.uint8) * 255"),
        (BYTES.astype(np.int64), "images are int64: .* write images.astype(numpy.uint8)"),
        (BYTES.astype(np.int16) - 128, "images are int16: .* write images / largest possible"),
        (BYTES.astype(np.uint16) * 257, "images are uint16: .* write images / largest possible"),
        (BYTES.astype(np.float64), "float images run from 0 to 255: .* write images / 255"),
        (BYTES.astype(np.float32) * 257, "from 0 to 65535: .*: divide by the largest"),
        (UNIT * 2 - 1, "from -1 to 1: .*: write (images + 1) / 2 if they were scaled"),
        ((UNIT - 0.47) / 0.25, "run from -1.88 to 2.12: .*: undo the normalisation: images * std"),
        (np.where(UNIT > 0.9, np.nan, UNIT), "from nan to nan: .*: replace what is no number"),
        (UNIT / 255, "float images reach no more than 0.0039, .*: divide by 255 once, not twice"),
        ((UNIT / 255).astype(np.float32), "divide by 255 once"),
    ],
)
def test_another_range_is_refused_with_what_to_write(tmp_path, images, said):
    path = archive(tmp_path, images)
    pattern = ".*".join(map(re.escape, said.split(".*")))
    with pytest.raises(InputError, match=pattern) as caught:
        load_images("npz", path=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "images",
    [BYTES, UNIT, UNIT.astype(np.float32), (UNIT > 0.5) * 1.0, (UNIT > 0.5) * np.uint8(255)],
)
def test_what_is_right_is_read_without_a_word(tmp_path, images):
    assert load_images("npz", path=archive(tmp_path, images)).remarks == ()


def test_very_dark_images_are_told_of(tmp_path):
    digits = load_digits().images[:50].astype(np.uint8)  # 0..16, as scikit-learn has them
    (remark,) = load_images("npz", path=archive(tmp_path, digits)).remarks
    assert "is brighter than 0.0627, where 1 is white" in remark


def test_one_dark_image_of_a_set_is_no_dark_set(tmp_path):
    images = BYTES.copy()
    images[0] = 1
    loaded = load_images("npz", path=archive(tmp_path, images))
    assert loaded.remarks == ()
    alone = loaded.stratified(1, seed=0)
    assert len(alone) == 1


def test_a_folder_of_masks_and_a_medmnist_file_are_looked_at_alike(tmp_path):
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / name)
    with pytest.raises(InputError, match="only 0 and 1"):
        load_images("folder", path=tmp_path)
    images = np.ones((4, 28, 28), np.uint8)
    arrays = {f"{s}_images": images for s in ("train", "val", "test")}
    arrays |= {f"{s}_labels": np.array([[0], [1], [0], [1]]) for s in ("train", "val", "test")}
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    with pytest.raises(InputError, match="only 0 and 1"):
        load_images("pneumoniamnist", split="val", path=tmp_path)


@pytest.mark.parametrize("extra", ["valid_images", "validation_labels", "extra_images", "Y_label"])
def test_arrays_that_are_not_read_are_told_of(tmp_path, extra):
    path = archive(tmp_path, BYTES, **{extra: BYTES, "ids": np.arange(6)})
    (remark,) = load_images("npz", path=path).remarks
    assert remark == f"{extra} in {path} not read: splits are train, val and test"
