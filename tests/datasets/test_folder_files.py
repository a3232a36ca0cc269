"""Which files of a folder are images, which are junk, and what is said of the rest."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dfshield.datasets import load_images
from dfshield.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)


def put(path, index):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS[index]).save(path)


@pytest.fixture
def flat(tmp_path):
    """Two classes of two images."""
    folder = tmp_path / "data"
    for index, name in enumerate(["cat/1.png", "cat/10.png", "dog/2.png", "dog/B.png"]):
        put(folder / name, index)
    return folder


def test_a_flat_folder_is_read_as_it_always_was(flat):
    images = load_images("folder", path=flat)
    digest = hashlib.sha256(b"uint8 (4, 4, 4, 3)\n" + PIXELS[:4].tobytes())
    digest.update(np.array([0, 0, 1, 1], dtype="<i8").tobytes())
    assert images.fingerprint() == digest.hexdigest()
    assert images.remarks == ()


def test_images_in_sub_folders_belong_to_the_class_in_a_fixed_order(flat):
    # As torchvision's ImageFolder: a folder's own files first, then its folders by name.
    put(flat / "cat/b/z.png", 6)
    put(flat / "cat/a/deep/x.png", 5)
    put(flat / "cat/a/y.png", 4)
    put(flat / "dog/2/x.png", 7)
    images = load_images("folder", path=flat)
    assert images.labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert np.array_equal(images.pixels, PIXELS[[0, 1, 4, 5, 6, 2, 3, 7]])
    assert images.class_names == ("cat", "dog")
    for split, number in (("train", 7), ("val", 1)):
        assert len(load_images("folder", split=split, path=flat)) == number


def test_every_image_may_lie_deeper(tmp_path):
    for index, name in enumerate(["cat/p1/a.png", "cat/p2/a.png", "dog/p1/a.png"]):
        put(tmp_path / "test" / name, index)
    images = load_images("folder", path=tmp_path)
    assert images.labels.tolist() == [0, 0, 1]
    assert np.array_equal(images.pixels, PIXELS[:3])


@pytest.mark.parametrize(
    "junk",
    [
        "__MACOSX/cat/._1.png",
        "__MACOSX/data.png",
        "__MACOSX/.DS_Store",
        ".ipynb_checkpoints/1-checkpoint.png",
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "cat/__MACOSX/x.png",
        "cat/._1.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        "@eaDir/x.png",
        "$RECYCLE.BIN/x.png",
        "Thumbs.db",
        "__pycache__/x.pyc",
    ],
)
def test_junk_is_passed_over_in_silence(flat, junk):
    before = load_images("folder", path=flat)
    file = flat / junk
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"junk")
    after = load_images("folder", path=flat)
    assert after.fingerprint() == before.fingerprint()
    assert after.class_names == before.class_names
    assert after.remarks == ()


def put_bytes(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat/notes.txt"], "1 file in {} left out, no image by the extension: cat/notes.txt"),
        (
            ["dog/a.gif", "cat/b/x.heic", "cat/e.npy", "dog/b.gif"],
            "4 files in {} left out, no image by the extension: cat/e.npy, cat/b/x.heic, "
            "dog/a.gif ...",
        ),
        (["loose.png"], "1 image in {} left out, in no class folder: loose.png"),
        (["owl/.keep"], "no image of class owl in {}: delete its folder if it is no class"),
    ],
)
def test_what_is_left_out_is_said(flat, names, said):
    for name in names:
        put_bytes(flat / name)
    assert load_images("folder", path=flat).remarks == (said.format(flat),)


def test_a_class_that_only_one_split_lacks_is_not_empty(tmp_path):
    put(tmp_path / "train/ant/a.png", 0)
    put(tmp_path / "train/bee/a.png", 1)
    put(tmp_path / "test/bee/a.png", 2)
    (tmp_path / "test/ant").mkdir()
    assert load_images("folder", path=tmp_path).remarks == ()
    (tmp_path / "test/wasp").mkdir()
    (tmp_path / "valid/ant").mkdir(parents=True)
    empty, unread = sorted(load_images("folder", path=tmp_path).remarks, reverse=True)
    assert empty == f"valid in {tmp_path} not read: splits are train, val and test"
    assert "no image of class wasp" in unread


@pytest.mark.parametrize(
    "names",
    [
        ["Train/cat/a.png", "Test/cat/a.png", "Test/dog/a.png"],
        ["training/cat/a.png", "validation/cat/a.png"],
        ["data/cat/a.png", "data/dog/a.png"],
        ["data/train/cat/a.png", "data/test/cat/a.png", "__MACOSX/x.png"],
    ],
)
def test_splits_and_wrappers_are_not_taken_for_classes(tmp_path, names):
    for name in names:
        put(tmp_path / name, 0)
    with pytest.raises(InputError, match="whose sub-folders look like the classes"):
        load_images("folder", path=tmp_path)


def test_links_are_followed_but_not_in_circles(flat, tmp_path):
    put(tmp_path / "elsewhere/x.png", 4)
    (flat / "cat/linked").symlink_to(tmp_path / "elsewhere")
    (flat / "cat/again").symlink_to(flat / "cat")
    (flat / "dog/up").symlink_to(flat)
    images = load_images("folder", path=flat)
    assert np.array_equal(images.pixels, PIXELS[[0, 1, 4, 2, 3]])


def test_folders_without_one_image_name_what_they_hold(tmp_path):
    put_bytes(tmp_path / "cat/a.gif")
    with pytest.raises(InputError, match=r"no images in class folders, only cat/a\.gif: wanted"):
        load_images("folder", path=tmp_path)


def test_a_sub_folder_that_cannot_be_read_is_an_error(flat, mortal):
    put(flat / "cat/closed/x.png", 4)
    (flat / "cat/closed").chmod(0)
    try:
        script = "import sys; from dfshield.datasets import load_images as load; "
        script += "load('folder', path=sys.argv[1])"
        command = [*mortal, sys.executable, "-c", script, str(flat)]
        said = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()[-1]
        assert said.startswith("dfshield.errors.InputError: ")
        assert "cannot be read as a folder of images" in said
    finally:
        (flat / "cat/closed").chmod(0o755)
