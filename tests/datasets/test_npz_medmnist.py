"""NumPy archives: the general ones and MedMNIST's."""

import numpy as np
import pytest
import torch

from dfshield.datasets import load_images
from dfshield.datasets.medmnist import MEDMNIST, info
from dfshield.errors import InputError


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def medmnist_arrays(number=6, shape=(28, 28), classes=2, splits=("train", "val", "test")):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in splits:
        arrays[f"{split}_images"] = rng.integers(0, 256, (number, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(number) % classes).astype(np.uint8)[:, None]
    return arrays


def test_real_cifar10(real_file):
    path = real_file("cifar10_test.npz")
    images = load_images("npz", path=path)
    assert (len(images), images.input_shape, images.num_classes) == (9968, (3, 32, 32), 10)
    with np.load(path) as archive:
        pixels, labels = archive["images"], archive["labels"]
    x, y = images.tensors(slice(100, 164))
    assert torch.equal(x, torch.from_numpy(pixels[100:164]).permute(0, 3, 1, 2) / 255)
    assert y.tolist() == labels[100:164].tolist()
    subset = images.stratified(1000, seed=0)
    assert np.abs(np.bincount(subset.labels) - np.bincount(labels) * 1000 / 9968).max() < 1


def rows_of(images):
    return sorted(
        pixels.tobytes() + bytes([label])
        for pixels, label in zip(images.pixels, images.labels, strict=True)
    )


def test_a_file_without_splits_is_all_test_and_divided_for_training(real_file):
    path = real_file("cifar10_train_5000.npz")
    train, val, test = (
        load_images("npz", split=one, path=path) for one in ("train", "val", "test")
    )
    assert (len(train), len(val), len(test)) == (4500, 500, 5000)
    assert sorted(rows_of(train) + rows_of(val)) == rows_of(test)
    assert np.abs(np.bincount(val.labels) - np.bincount(test.labels) / 10).max() < 1
    assert load_images("npz", split="val", path=path).fingerprint() == val.fingerprint()


def test_validation_is_a_tenth_of_train_where_the_file_has_none(tmp_path):
    arrays = medmnist_arrays(40, splits=("train", "test"))
    path = save(tmp_path / "a.npz", **arrays)
    train, val, test = (
        load_images("npz", split=one, path=path) for one in ("train", "val", "test")
    )
    assert np.bincount(val.labels).tolist() == [2, 2]
    both = np.concatenate([train.pixels, val.pixels])[..., 0]
    assert sorted(one.tobytes() for one in both) == sorted(
        one.tobytes() for one in arrays["train_images"]
    )
    assert np.array_equal(test.pixels[..., 0], arrays["test_images"])
    del arrays["train_images"]
    path = save(tmp_path / "b.npz", **arrays)
    with pytest.raises(InputError, match='has no "val" split, only "test"'):
        load_images("npz", split="val", path=path)


def test_one_image_cannot_be_divided(tmp_path):
    path = save(tmp_path / "a.npz", images=PIXELS[:1], labels=np.array([0]))
    assert len(load_images("npz", path=path)) == 1
    for split in ("train", "val"):
        with pytest.raises(InputError, match="holds 1 image: train and val need one each"):
            load_images("npz", split=split, path=path)


def test_a_medmnist_file_has_its_splits(tmp_path):
    path = save(tmp_path / "octmnist.npz", images=PIXELS, labels=np.arange(3))
    with pytest.raises(InputError, match='wanted "train_images" and "train_labels"'):
        load_images("octmnist", split="train", path=path)


def test_real_pneumoniamnist(real_file):
    path = real_file("pneumoniamnist.npz")
    for split, number in (("train", 4708), ("val", 524), ("test", 624)):
        images = load_images("pneumoniamnist", split=split, path=path)
        assert len(images) == number
        assert images.input_shape == (1, 28, 28)
        assert images.class_names == ("normal", "pneumonia")
    # The documented test counts: 234 normal, 390 with pneumonia.
    assert np.bincount(images.labels).tolist() == [234, 390]
    assert images.with_channels(3).stratified(10, seed=0).tensors()[0].shape == (10, 3, 28, 28)
    in_folder = load_images("pneumoniamnist", path=path.parent)
    plain = load_images("npz", path=path)
    assert in_folder.fingerprint() == plain.fingerprint() == images.fingerprint()


def test_npz_reads_splits_class_names_and_floats(tmp_path):
    arrays = medmnist_arrays(splits=("train", "test"))
    path = save(tmp_path / "a.npz", **arrays, class_names=np.array(["cat", "dog", "yak"]))
    images = load_images("npz", split="train", path=path)
    assert images.class_names == ("cat", "dog", "yak")
    floats = {"images": np.linspace(0, 1, 48).reshape(3, 4, 4), "labels": np.arange(3)}
    images, labels = load_images("npz", path=save(tmp_path / "b.npz", **floats)).tensors()
    assert np.allclose(images.numpy().ravel(), floats["images"].ravel(), atol=1e-7)
    assert labels.tolist() == [0, 1, 2]


def test_number_of_classes_counts_all_splits(tmp_path):
    arrays = medmnist_arrays()
    arrays["train_labels"][0] = 7
    path = save(tmp_path / "a.npz", **arrays)
    assert load_images("npz", split="test", path=path).num_classes == 8


PIXELS = np.zeros((3, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": PIXELS, "y": np.arange(3)}, "has the keys 'x', 'y': wanted"),
        ({}, r"has the keys \(none\)"),
        ({"\nmages": PIXELS}, r"has the keys '.nmages': wanted"),
        ({"images": PIXELS}, 'has "images" but not "labels"'),
        ({"test_images": PIXELS, "labels": np.arange(3)}, 'but not "test_labels"'),
        ({"images": PIXELS, "labels": np.arange(4)}, "3 images but 4 labels"),
        ({"images": PIXELS, "labels": np.array([0, 1, -1])}, "from -1 to 1"),
        ({"images": PIXELS, "labels": np.ones(3)}, "labels are float64"),
        ({"images": PIXELS, "labels": np.array(1)}, r"labels have shape \(\)"),
        ({"images": PIXELS, "labels": np.array([0, 1, 2**63], np.uint64)}, "from 0 to 92233720368"),
        ({"images": PIXELS * 2.0 + 3, "labels": np.arange(3)}, "from 3 to 3"),
        ({"images": np.array([{}, {}]), "labels": np.arange(2)}, "cannot be read as an .npz"),
        ({"images": PIXELS, "labels": np.arange(3), "class_names": np.arange(3)}, "class_names is"),
        ({"images": PIXELS, "labels": np.arange(3), "class_names": np.array(["a"])}, "label 2 is"),
    ],
)
def test_npz_refused(tmp_path, arrays, said):
    path = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=said) as caught:
        load_images("npz", path=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_npz_files_of_another_kind(tmp_path):
    for name, content in [("a.npz", b""), ("b.npz", b"images"), ("c.npz", b"\x80\x04N.")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read as an .npz archive"):
            load_images("npz", path=tmp_path / name)
    np.save(tmp_path / "d.npy", PIXELS)
    with pytest.raises(InputError, match="is a single array"):
        load_images("npz", path=tmp_path / "d.npy")


def test_damaged_archives_give_one_line(tmp_path):
    whole = save(tmp_path / "octmnist.npz", **medmnist_arrays(classes=4)).read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[: len(whole) * part // 10] for part in range(10)]
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(content))
    messages = []
    for content in damaged:
        (tmp_path / "octmnist.npz").write_bytes(content)
        try:
            load_images("octmnist", path=tmp_path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) >= 50
    assert all("octmnist.npz" in one and "\n" not in one for one in messages)


def test_the_eleven_are_those_medmnist_calls_two_dimensional_and_single_label():
    expected = {
        name
        for name, about in info().items()
        if "3d" not in name and not about["task"].startswith("multi-label")
    }
    assert set(MEDMNIST) == expected
    assert len(MEDMNIST) == 11


@pytest.mark.parametrize("name", MEDMNIST)
def test_every_medmnist_set_at_two_sizes(tmp_path, name):
    about = info()[name]
    classes = len(about["label"])
    for file, side in ((f"{name}.npz", 28), (f"{name}_64.npz", 64)):
        shape = (side, side) if about["n_channels"] == 1 else (side, side, 3)
        path = save(tmp_path / file, **medmnist_arrays(classes + 1, shape, classes))
        images = load_images(name, split="val", path=path)
        assert images.input_shape == (about["n_channels"], side, side)
        assert images.num_classes == classes
        assert images.class_names[0] == about["label"]["0"]
    with pytest.raises(InputError, match=f"holds {name}.npz, {name}_64.npz: give the path"):
        load_images(name, path=tmp_path)
    (tmp_path / f"{name}.npz").unlink()
    assert load_images(name, path=tmp_path).input_shape[1:] == (64, 64)


def test_the_file_of_another_set_is_refused(tmp_path):
    path = save(tmp_path / "breastmnist.npz", **medmnist_arrays())
    with pytest.raises(InputError, match=r"wanted pneumoniamnist\.npz"):
        load_images("pneumoniamnist", path=path)
    path = save(tmp_path / "renamed.npz", **medmnist_arrays(classes=5, number=10))
    with pytest.raises(InputError, match=r"label 4 is outside 0\.\.1"):
        load_images("pneumoniamnist", path=path)
    with pytest.raises(InputError, match="images have 1 channels, but retinamnist has 3"):
        load_images("retinamnist", path=path)
