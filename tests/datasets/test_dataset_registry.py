"""The registry: names, splits, the digits, and what loading must not do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

import dfshield
from dfshield.datasets import DATASETS, SPLITS, load_images
from dfshield.datasets.medmnist import MEDMNIST
from dfshield.errors import InputError


def test_digits_splits_are_a_stratified_partition_of_the_source():
    source = sklearn_datasets.load_digits()
    splits = {split: load_images("digits", split=split) for split in SPLITS}
    assert {split: len(one) for split, one in splits.items()} == {
        "train": 1097,
        "val": 200,
        "test": 500,
    }

    def sorted_rows(images, labels):
        rows = np.column_stack([images.reshape(len(labels), -1), labels])
        return rows[np.lexsort(rows.T)]

    pixels = np.concatenate([one.pixels for one in splits.values()]) * 16
    labels = np.concatenate([one.labels for one in splits.values()])
    assert np.array_equal(sorted_rows(pixels, labels), sorted_rows(source.images, source.target))
    share = np.bincount(source.target) / 1797
    for one in splits.values():
        assert np.abs(np.bincount(one.labels) - share * len(one)).max() < 1.5
        images, _ = one.tensors()
        assert images.shape[1:] == one.input_shape == (1, 8, 8)
        assert (images.min(), images.max()) == (0, 1)
        assert one.class_names == tuple("0123456789")


def test_digits_split_never_changes():
    # Published numbers depend on which digits are held out.
    prints = {split: load_images("digits", split=split).fingerprint()[:16] for split in SPLITS}
    assert prints == {
        "train": "e207214cd8d97895",
        "val": "3671bb0287d18905",
        "test": "707c0880497415d9",
    }


def test_digits_take_no_path(tmp_path):
    with pytest.raises(InputError, match="come with scikit-learn"):
        load_images("digits", path=tmp_path)


def test_names():
    assert set(DATASETS) == {
        "digits", *MEDMNIST, "cifar10", "cifar100", "svhn", "npz", "folder"
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'cifar-10' is unknown: did you mean 'cifar10'\?"):
        load_images("cifar-10")
    with pytest.raises(InputError, match="chestmnist: is multi-label"):
        load_images("chestmnist")
    with pytest.raises(InputError, match="'nodulemnist3d' is unknown"):
        load_images("nodulemnist3d")


@pytest.mark.parametrize("name", DATASETS)
def test_unknown_split(name):
    with pytest.raises(InputError, match=r"split: 'tset' is unknown: did you mean 'test'\?"):
        load_images(name, split="tset")


@pytest.mark.parametrize(
    ("name", "wanted", "source"),
    [
        ("pathmnist", "pathmnist.npz", "medmnist.com"),
        ("cifar10", "test_batch.bin", "www.cs.toronto.edu"),
        ("cifar100", "test.bin", "www.cs.toronto.edu"),
        ("svhn", "test_32x32.mat", "ufldl.stanford.edu"),
        ("npz", ".npz file", "numpy.savez"),
        ("folder", "one sub-folder of images per class", "CLASS/*.png"),
    ],
)
def test_path_missing_or_wrong_says_what_is_wanted(name, wanted, source, tmp_path):
    for path in (None, tmp_path / "nowhere", f"{tmp_path}/{'x' * 300}", "~nobody-of-that-name/x"):
        with pytest.raises(InputError) as caught:
            load_images(name, path=path)
        message = str(caught.value)
        assert "\n" not in message
        assert wanted in message
        assert source in message or "cannot be read" in message
    with pytest.raises(InputError) as caught:  # an empty folder
        load_images(name, path=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_home_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]))
    assert len(load_images("npz", path="~/a.npz")) == 2


def test_loading_leaves_no_trace(tmp_path):
    """Neither torchvision nor a folder in the user's home, and no slow import without need."""
    home = tmp_path / "home"
    home.mkdir()
    shape = (4, 28, 28)
    for name in ("train", "val", "test"):
        arrays = {
            f"{name}_images": np.zeros(shape, np.uint8),
            f"{name}_labels": np.zeros((4, 1), int),
        }
    np.savez(tmp_path / "octmnist.npz", **arrays)
    program = f"""
import sys
from dfshield.datasets import load_images
assert not {{"sklearn", "scipy", "medmnist", "pandas"}} & set(sys.modules)
load_images("octmnist", path={str(tmp_path)!r})
load_images("digits")
try:
    load_images("svhn", path={str(tmp_path)!r})
except ValueError:
    pass
assert not {{"torchvision", "medmnist", "ray"}} & set(sys.modules), "imported"
"""
    package = str(next(iter(dfshield.__path__)))
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": os.path.dirname(package)}  # noqa: PTH120
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(home.iterdir()) == []
