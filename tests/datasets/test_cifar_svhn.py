"""CIFAR-10/100 in both official layouts and SVHN, written here from real CIFAR-10 images."""

import pickle

import numpy as np
import pytest
from scipy.io import savemat

from dfshield.datasets import load_images
from dfshield.datasets.cifar import _ARCHIVES
from dfshield.errors import InputError


@pytest.fixture(scope="module")
def real(real_file):
    with np.load(real_file("cifar10_test.npz")) as archive:
        return archive["images"][:60], archive["labels"][:60].astype(np.int64)


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def write_binary(folder, batches, label_bytes=1):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        columns = [labels[:, None].astype(np.uint8), planes(images)]
        if label_bytes == 2:
            columns.insert(0, (labels // 5)[:, None].astype(np.uint8))  # coarse labels
        (folder / f"{name}.bin").write_bytes(np.hstack(columns).tobytes())


def write_pickled(folder, batches, key="labels", as_bytes=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        content = {
            "data": planes(images),
            key: labels.tolist(),
            "batch_label": b"a",
            "filenames": [b"b"],
        }
        if as_bytes:
            content = {one.encode(): value for one, value in content.items()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def five_batches(images, labels):
    return {
        f"data_batch_{k + 1}": (images[10 * k : 10 * k + 10], labels[10 * k : 10 * k + 10])
        for k in range(5)
    }


@pytest.mark.parametrize("inside", [True, False])
def test_cifar10_layouts_agree(real, tmp_path, inside):
    images, labels = real
    batches = five_batches(images, labels) | {"test_batch": (images[50:], labels[50:])}
    binary, python = tmp_path / "one/cifar-10-batches-bin", tmp_path / "two/cifar-10-batches-py"
    write_binary(binary, batches)
    write_pickled(python, batches)
    held_out = load_images("cifar10", split="val", path=binary)
    val = [next(k for k in range(50) if np.array_equal(images[k], x)) for x in held_out.pixels]
    assert len(val) == 5
    train = np.setdiff1d(np.arange(50), val)
    for split, rows in (("train", train), ("val", val), ("test", slice(50, 60))):
        paths = [binary, python] if inside else [binary.parent, python.parent]
        first, second = (load_images("cifar10", split=split, path=path) for path in paths)
        assert first.fingerprint() == second.fingerprint()
        assert np.array_equal(first.pixels, images[rows])
        assert first.labels.tolist() == second.labels.tolist() == labels[rows].tolist()
        assert first.class_names == second.class_names
        assert first.class_names[3] == "cat"


@pytest.mark.parametrize("as_bytes", [True, False])
def test_cifar100_layouts_agree_on_fine_labels(real, tmp_path, as_bytes):
    images, labels = real[0], np.arange(60) + 40
    batches = {"train": (images[:50], labels[:50]), "test": (images[50:], labels[50:])}
    write_binary(tmp_path / "cifar-100-binary", batches, label_bytes=2)
    write_pickled(tmp_path / "x/cifar-100-python", batches, "fine_labels", as_bytes)
    for split in ("train", "val", "test"):
        first = load_images("cifar100", split=split, path=tmp_path)
        second = load_images("cifar100", split=split, path=tmp_path / "x")
        assert first.fingerprint() == second.fingerprint()
        rows = first.labels - 40
        assert len(rows) == {"train": 45, "val": 5, "test": 10}[split]
        assert np.array_equal(first.pixels, images[rows])


def test_built_in_class_names():
    names = _ARCHIVES["cifar100"].class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names), "the fine classes are in alphabetical order"
    assert len(_ARCHIVES["cifar10"].class_names) == 10


def test_class_names_come_from_the_archive(real, tmp_path):
    names = [f"name {k}" for k in range(10)]
    binary, python = tmp_path / "a", tmp_path / "b"
    write_binary(binary, {"test_batch": real})
    write_pickled(python, {"test_batch": real})
    (binary / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    meta = {b"label_names": [name.encode() for name in names]}
    (python / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    for folder in (binary, python):
        assert load_images("cifar10", path=folder).class_names == tuple(names)
    (binary / "batches.meta.txt").write_text("cat\ndog\n")
    (python / "batches.meta").write_bytes(pickle.dumps({b"label_names": names[:2]}, protocol=2))
    for folder, file in ((binary, "batches.meta.txt"), (python, "batches.meta")):
        with pytest.raises(InputError, match=f"{file}: has 2 class names: wanted 10"):
            load_images("cifar10", path=folder)
    (binary / "batches.meta.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as a list of class names"):
        load_images("cifar10", path=binary)
    (python / "batches.meta").write_bytes(pickle.dumps({}, protocol=2))
    with pytest.raises(InputError, match='wanted "label_names"'):
        load_images("cifar10", path=python)


@pytest.mark.parametrize("write", [write_binary, write_pickled])
def test_a_missing_batch_is_named(real, tmp_path, write):
    batches = five_batches(*real)
    del batches["data_batch_3"]
    write(tmp_path, batches)
    with pytest.raises(InputError, match="data_batch_3"):
        load_images("cifar10", split="train", path=tmp_path)
    with pytest.raises(InputError, match=r"is not the folder that holds test_batch\.bin"):
        load_images("cifar10", split="test", path=tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 3072, 5000])
def test_truncated_binary(real, tmp_path, cut):
    write_binary(tmp_path, {"test_batch": real})
    file = tmp_path / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"test_batch\.bin: has .* bytes, not a whole number"):
        load_images("cifar10", path=tmp_path)


def test_labels_outside_the_classes_name_the_file(real, tmp_path):
    labels = real[1].copy()
    labels[7] = 10
    write_binary(tmp_path / "a", {"test_batch": (real[0], labels)})
    write_pickled(tmp_path / "b", {"test_batch": (real[0], labels)})
    for folder in ("a", "b"):
        with pytest.raises(InputError, match=r"test_batch(\.bin)?: labels run from 0 to 10"):
            load_images("cifar10", path=tmp_path / folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list: wanted a dictionary"),
        ({"labels": [1]}, 'wanted "data", a uint8 array'),
        ({"data": np.zeros(()), "labels": [1]}, 'wanted "data"'),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [1]}, 'wanted "data"'),
        ({"data": np.zeros((1, 1024), np.uint8), "labels": [1]}, 'wanted "data"'),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1, 2]}, 'wanted "labels", 1 integers'),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["1"]}, 'wanted "labels"'),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, "labels run from 1180"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [1]}, 'wanted "labels"'),
    ],
)
def test_pickled_batches_of_another_kind(tmp_path, content, said):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=said) as caught:
        load_images("cifar10", path=tmp_path)
    assert str(tmp_path / "test_batch") in str(caught.value)


def write_svhn(folder, images, labels, split="test", **changed):
    content = {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None].astype(np.uint8)} | changed
    file = folder / f"{split}_32x32.mat"
    savemat(file, {key: value for key, value in content.items() if value is not None},
            do_compression=True)  # fmt: skip
    return file


def test_svhn(real, tmp_path):
    images, labels = real
    file = write_svhn(tmp_path, images, np.where(labels == 0, 10, labels))
    write_svhn(tmp_path, images[:5], np.arange(1, 6), split="train")
    for path in (tmp_path, file):
        loaded = load_images("svhn", path=path)
        assert np.array_equal(loaded.pixels, images)
        assert loaded.labels.tolist() == labels.tolist()
        assert loaded.class_names == tuple("0123456789")
    train, val = (load_images("svhn", split=one, path=tmp_path) for one in ("train", "val"))
    assert len(val) == 1
    assert sorted([*train.labels, *val.labels]) == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match=r"is not the file train_32x32\.mat"):
        load_images("svhn", split="train", path=file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"X": None}, 'has no variable "X"'),
        ({"y": None}, 'has no variable "y"'),
        ({"X": np.zeros((32, 32, 3, 60))}, "X is float64 of shape"),
        ({"X": np.zeros((32, 32, 60), np.uint8)}, r"shape \(32, 32, 60\): wanted uint8"),
        ({"y": np.zeros((60, 1), np.uint8)}, r"from 0 to 0: wanted 1\.\.10"),
        ({"y": np.full((60, 1), 11, np.uint8)}, r"from 11 to 11: wanted 1\.\.10"),
        ({"y": np.ones((59, 1), np.uint8)}, "60 images but 59 labels"),
        ({"y": np.ones((60, 1))}, "labels are float64"),
    ],
)
def test_svhn_refused(real, tmp_path, changed, said):
    file = write_svhn(tmp_path, *real, **changed)
    with pytest.raises(InputError, match=said) as caught:
        load_images("svhn", path=tmp_path)
    assert str(file) in str(caught.value)


def test_damaged_mat_gives_one_line(real, tmp_path):
    file = write_svhn(tmp_path, real[0], real[1] % 9 + 1)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[: len(whole) * part // 10] for part in range(10)] + [b"MATLAB 7.3 MAT-file"]
    for _ in range(40):
        content = bytearray(whole)
        content[rng.integers(200)] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(content))
    messages = []
    for content in damaged:
        file.write_bytes(content)
        try:
            load_images("svhn", path=tmp_path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) >= 11
    assert all(str(file) in one and "\n" not in one for one in messages)
