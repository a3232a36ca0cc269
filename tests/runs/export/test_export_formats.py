"""What is exported, read back by the libraries it is for: the same pixels, labels and logits."""

import io
import json
import os
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from random_sets import random_arrays, random_manifest, write_random_set

from dfshield.datasets import load_images
from dfshield.errors import InputError
from dfshield.runs import SilentObserver, export_data
from dfshield.storage import Folder, PartArrays, SurrogateDataset
from dfshield.storage.local_files import temporary_beside

KINDS = [("uint8", 1), ("uint8", 3), ("uint8", 2), ("float16", 3), ("float32", 1), ("float32", 3)]
SPLITS = {"train": "data", "holdout": "holdout"}


class Said(SilentObserver):
    """Keeps what is said, and counts what is done."""

    def __init__(self):
        self.lines, self.done = [], 0.0

    def say(self, text):
        self.lines.append(text)

    def begin(self, title, *, total, done, unit):
        self.total = total

    def advance(self, amount):
        self.done += amount


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def stored(request, tmp_path_factory):
    """The folder of a data set, and its images by the names of exported splits."""
    dtype, channels = request.param
    folder = Folder.at(tmp_path_factory.mktemp("stored") / "set")
    manifest = random_manifest(image_dtype=dtype, image_shape=(channels, 5, 4))
    write_random_set(folder, manifest)
    arrays = {
        name: PartArrays.joined([random_arrays(manifest, part) for part in manifest.split(split)])
        for name, split in SPLITS.items()
    }
    return folder, arrays


def exported(folder, to, out, **options):
    said = Said()
    report = export_data(str(folder), to, str(out), observer=said, **options)
    assert said.done == said.total == sum(report.splits.values()) == 29
    return said.lines


def table_of(out, split):
    """A split of an exported folder, with the columns of its files in order."""
    files = sorted(out.glob(f"data/{split}-*.parquet")) or sorted(out.glob(f"{split}/*.parquet"))
    assert files
    return pd.concat([pd.read_parquet(file) for file in files])


def same_but_images(table, arrays):
    """Whether all columns beside the pixels are those of the data set."""
    assert list(table.columns[:3]) == ["image", "label", "teacher_logits"]
    assert np.array_equal(table["label"], arrays.labels)
    assert np.array_equal(np.stack(table["teacher_logits"]), arrays.teacher_logits)
    for name in ("batch", "seed"):
        assert np.array_equal(table[name], getattr(arrays, name))
    for name, values in arrays.columns.items():
        assert np.array_equal(table[name], values)
        assert table[name].dtype == values.dtype
    return True


def test_npz_holds_channels_last_what_numpy_and_our_own_reader_take(stored, tmp_path):
    folder, arrays = stored
    exported(folder, "npz", tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz", allow_pickle=False) as archive:
        assert archive["class_names"].tolist() == ["cat", "dog", "Äffle"]
        for split, expected in arrays.items():
            pixels = archive[f"{split}_images"]
            assert pixels.dtype == expected.images.dtype
            assert np.array_equal(pixels, expected.images.transpose(0, 2, 3, 1))
            assert np.array_equal(archive[f"{split}_labels"], expected.labels)
            assert np.array_equal(archive[f"{split}_teacher_logits"], expected.teacher_logits)
        assert len(archive.files) == 7
    if expected.images.shape[1] != 2:  # real images are grey or RGB
        with np.load(tmp_path / "images.npz") as archive:
            np.savez(
                tmp_path / "test.npz",
                images=archive["train_images"],
                labels=archive["train_labels"],
                class_names=archive["class_names"],
            )
        read, labels = load_images("npz", path=tmp_path / "test.npz").tensors()
        whole = 255 if expected.images.dtype == np.uint8 else 1
        close = arrays["train"].images.astype(np.float32) / np.float32(whole)
        assert np.array_equal(read.numpy(), close)
        assert np.array_equal(labels.numpy(), arrays["train"].labels)


def test_ray_s_columns_are_tensors_with_channels_first(stored, tmp_path):
    from ray.data.block import BlockAccessor  # what ray.data reads a file with; Ray is not started

    folder, arrays = stored
    exported(folder, "ray", tmp_path / "out")
    for split, expected in arrays.items():
        files = sorted(tmp_path.glob(f"out/{split}/*.parquet"))
        blocks = [BlockAccessor.for_block(pq.read_table(file)) for file in files]
        batches = [block.to_batch_format("numpy") for block in blocks]
        images = np.concatenate([batch["image"] for batch in batches])
        assert images.dtype == expected.images.dtype
        assert np.array_equal(images, expected.images)
        logits = np.concatenate([batch["teacher_logits"] for batch in batches])
        assert np.array_equal(logits, expected.teacher_logits)
        assert same_but_images(table_of(tmp_path / "out", split), expected)


def test_pictures_or_exact_arrays_for_hugging_face(stored, tmp_path):
    folder, arrays = stored
    said = exported(folder, "hf", tmp_path / "out")
    for split, expected in arrays.items():
        table = table_of(tmp_path / "out", split)
        assert same_but_images(table, expected)
        _, channels, *_ = expected.images.shape
        if expected.images.dtype == np.uint8 and channels != 2:
            assert not said
            pictures = [Image.open(io.BytesIO(row["bytes"])) for row in table["image"]]
            assert {picture.mode for picture in pictures} == {"L" if channels == 1 else "RGB"}
            pixels = np.stack([np.asarray(picture).reshape(5, 4, -1) for picture in pictures])
            assert np.array_equal(pixels.transpose(0, 3, 1, 2), expected.images)
        else:
            assert "stay arrays" in said[0]
            assert ("--uint8" in said[0]) == (channels != 2)
            nested = np.stack([_lists(row) for row in table["image"]])
            assert nested.dtype == expected.images.dtype
            assert np.array_equal(nested, expected.images)


def _lists(row):
    """Nested arrays, as pandas has lists of lists, as one array."""
    return np.stack([np.stack([np.asarray(line) for line in plane]) for plane in row])


def test_equal_sets_give_equal_bytes(stored, tmp_path):
    folder, _ = stored
    copies = []
    for copy in ("a", "b"):
        exported(folder, "hf", tmp_path / copy / "hf")
        exported(folder, "ray", tmp_path / copy / "ray")
        exported(folder, "npz", tmp_path / copy / "images.npz")
        files = (path for path in (tmp_path / copy).rglob("*") if path.is_file())
        copies.append({str(p.relative_to(tmp_path / copy)): p.read_bytes() for p in files})
    assert copies[0] == copies[1]
    assert not [name for name in copies[0] if "dfshield-tmp" in name]


def test_rounding_is_done_where_it_is_asked_for_and_said_in_the_report(tmp_path):
    folder = Folder.at(tmp_path / "set")
    manifest = random_manifest(image_shape=(3, 5, 4))
    write_random_set(folder, manifest)
    report = export_data(
        str(folder), "hf", str(tmp_path / "out"), uint8=True, observer=SilentObserver()
    )
    assert report.to_json()["image_dtype"] == "uint8"
    stored = SurrogateDataset.open(folder).read(manifest.split("holdout")[0])
    row = table_of(tmp_path / "out", "holdout")["image"].iloc[0]
    picture = np.asarray(Image.open(io.BytesIO(row["bytes"])))
    expected = np.rint(stored.images[0].transpose(1, 2, 0) * 255)
    assert np.array_equal(picture, expected)


def test_features_of_the_head_are_the_columns(stored, tmp_path):
    folder, arrays = stored
    exported(folder, "hf", tmp_path / "out")
    _, head, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    features = {f["name"]: f for f in yaml.safe_load(head)["dataset_info"]["features"]}
    schema = pq.read_schema(next(tmp_path.glob("out/data/*.parquet")))
    assert list(features) == schema.names
    names = features["label"]["dtype"]["class_label"]["names"]
    assert names == {"0": "cat", "1": "dog", "2": "Äffle"}
    images = arrays["train"].images
    pictures = images.dtype == np.uint8 and images.shape[1] != 2
    array = {"array3_d": {"shape": [*images.shape[1:]], "dtype": images.dtype.name}}
    assert features["image"]["dtype"] == ("image" if pictures else array)
    kinds = {"double": "float64", "float": "float32", "int64": "int64"}
    for name in schema.names[3:]:
        assert features[name]["dtype"] == kinds[str(schema.field(name).type)]
    assert ("PIL image" in body) == pictures


def test_an_archive_is_written_part_by_part(tmp_path, monkeypatch):
    """No array of all images is ever made."""
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest(num_images=400, part_size=8))
    largest = []
    write = zipfile._ZipWriteFile.write
    monkeypatch.setattr(
        zipfile._ZipWriteFile,
        "write",
        lambda self, data: largest.append(len(data)) or write(self, data),
    )
    export_data(str(folder), "npz", str(tmp_path / "a.npz"), observer=SilentObserver())
    assert max(largest) < 400 * 2 * 5 * 3 * 4 / 4


def test_a_broken_part_leaves_nothing_behind(tmp_path):
    folder = Folder.at(tmp_path / "set")
    manifest = random_manifest()
    write_random_set(folder, manifest)
    part = manifest.split("holdout")[0]
    whole = folder.read_bytes(part.path)
    folder.write_bytes(part.path, whole[:-10])
    for to, out in (("hf", "out"), ("ray", "out"), ("npz", "out.npz")):
        with pytest.raises(Exception, match=r"holdout/part-0000\.parquet: truncated or damaged"):
            export_data(str(folder), to, str(tmp_path / out), observer=SilentObserver())
        assert [path.name for path in tmp_path.iterdir()] == ["set"]
    folder.delete(part.path)
    with pytest.raises(InputError, match=r"1 of \d parts are missing: run `dfshield synthesize`"):
        export_data(str(folder), "hf", str(tmp_path / "out"), observer=SilentObserver())


def test_what_a_killed_export_left_goes_with_the_next(tmp_path):
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest())
    name = temporary_beside(tmp_path / "out").name
    left = tmp_path / name.replace(
        f".{os.getpid()}.", f".{2**22 + 1}."
    )  # no process has this number
    (left / "data").mkdir(parents=True)
    export_data(str(folder), "hf", str(tmp_path / "out"), observer=SilentObserver())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_class_names_that_repeat_are_told_apart(tmp_path):
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest(class_names=("cat", "dog", "cat")))
    export_data(str(folder), "hf", str(tmp_path / "out"), observer=SilentObserver())
    head = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    (label,) = [f for f in head["dataset_info"]["features"] if f["name"] == "label"]
    assert list(label["dtype"]["class_label"]["names"].values()) == ["0 cat", "1 dog", "2 cat"]


def test_the_report_is_json(tmp_path):
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest(num_holdout=0))
    report = export_data(str(folder), "ray", str(tmp_path / "out"), observer=SilentObserver())
    assert json.loads(json.dumps(report.to_json())) == {
        "source": str(tmp_path / "set"),
        "format": "ray",
        "path": str(tmp_path / "out"),
        "image_dtype": "float32",
        "splits": {"train": 24},
    }
    assert not (tmp_path / "out" / "holdout").exists()
