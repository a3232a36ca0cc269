"""The card in a data set's folder: when it is written, and what it tells `load_dataset`."""

import numpy as np
import pytest
import yaml
from random_sets import random_manifest, write_random_set
from tiny_run import call, contents, run_of, stamps, succeed

from dfshield.runs.export.card import keep_card
from dfshield.runs.records import read_record
from dfshield.storage import Folder, SurrogateDataset

CARD = "README.md"


def head_of(text):
    empty, head, _ = text.split("---\n", 2)
    assert not empty
    return yaml.safe_load(head)


def files_of(text, root):
    """The files of every split, as the card's patterns find them."""
    (config,) = head_of(text)["configs"]
    return {
        one["split"]: sorted(str(path.relative_to(root)) for path in root.glob(one["path"]))
        for one in config["data_files"]
    }


@pytest.fixture
def stored(tmp_path):
    folder = Folder.at(tmp_path / "set")
    write_random_set(folder, random_manifest())
    return folder, SurrogateDataset.open(folder).manifest


def test_its_patterns_keep_the_splits_apart_and_leave_no_part_out(stored):
    folder, manifest = stored
    keep_card(folder, manifest)
    folder.write_bytes("summary/shard-00000.png", b"")
    assert files_of(folder.read_bytes(CARD).decode(), folder.local) == {
        "train": sorted(part.path for part in manifest.split("data")),
        "holdout": sorted(part.path for part in manifest.split("holdout")),
    }


def test_it_describes_the_columns_and_leaves_the_licence_to_the_user(stored):
    folder, manifest = stored
    keep_card(folder, manifest)
    head = head_of(folder.read_bytes(CARD).decode())
    features = {feature["name"]: feature for feature in head["dataset_info"]["features"]}
    assert features["label"]["dtype"]["class_label"]["names"]["2"] == "Äffle"
    assert features["teacher_logits"] == {
        "name": "teacher_logits",
        "sequence": "float32",
        "length": 3,
    }
    assert {"alpha_tv", "loss_total", "batch", "seed"} < features.keys()
    assert "license" not in head
    assert "data-free" in head["tags"]


def test_its_code_opens_the_pixels(stored):
    folder, manifest = stored
    keep_card(folder, manifest)
    text = folder.read_bytes(CARD).decode()
    (code,) = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    (line,) = [line for line in code.splitlines() if line.startswith("image = ")]
    part = manifest.split("data")[0]
    import pyarrow.parquet as pq

    row = pq.read_table(folder.local / part.path)["image"][0].as_py()
    names = {"np": np, "data": {"train": [{"image": row}]}}
    exec(line, names)
    expected = SurrogateDataset.open(folder).read(part).images[0]
    assert np.array_equal(names["image"], expected)


def test_equal_sets_have_equal_cards_wherever_they_lie(stored, tmp_path):
    folder, manifest = stored
    keep_card(folder, manifest)
    other = Folder.at(tmp_path / "elsewhere")
    engine = {"device": "cuda", "threads": 3}
    more = random_manifest(num_images=48, engine=engine)
    keep_card(other, more)
    assert other.read_bytes(CARD) == folder.read_bytes(CARD)


def test_one_that_was_edited_stays_and_one_of_before_the_hold_out_does_not(tmp_path):
    folder = Folder.at(tmp_path / "set")
    keep_card(folder, random_manifest(num_holdout=0))
    assert files_of(folder.read_bytes(CARD).decode(), folder.local).keys() == {"train"}
    keep_card(folder, random_manifest())
    text = folder.read_bytes(CARD).decode()
    assert files_of(text, folder.local).keys() == {"train", "holdout"}
    edited = text.replace("tags:", "license: mit\ntags:").encode()
    folder.write_bytes(CARD, edited)
    keep_card(folder, random_manifest())
    assert folder.read_bytes(CARD) == edited


def test_hostile_class_names_stay_text(tmp_path):
    folder = Folder.at(tmp_path / "set")
    evil = "<script>|`*x*`\n---\n# big"
    keep_card(folder, random_manifest(class_names=(evil, "no", "1.0")))
    text = folder.read_bytes(CARD).decode()
    names = head_of(text)["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert list(names.values()) == [" ".join(evil.split()), "no", "1.0"]
    assert "<script>" not in text.split("---\n\n# Surrogate")[1]


def test_a_run_writes_one_that_is_no_part_of_what_it_records(tiny):
    run = run_of(tiny())
    data = Folder.at(run / "synthetic")
    record = read_record(data)
    assert CARD not in record["files"]
    assert files_of(data.read_bytes(CARD).decode(), run / "synthetic").keys() == {
        "train",
        "holdout",
    }
    assert "3 of 3 parts verify" in succeed("verify", run).out


def test_a_finished_run_without_a_card_stays_as_it_is_until_something_is_made(tiny):
    config = tiny()
    run = run_of(config)
    card = run / "synthetic" / CARD
    text = card.read_bytes()
    card.unlink()
    before = stamps(run / "synthetic")
    succeed("synthesize", config)
    assert stamps(run / "synthetic") == before
    part = SurrogateDataset.open(run / "synthetic").manifest.parts[0]
    (run / "synthetic" / part.path).unlink()
    succeed("synthesize", config)
    assert card.read_bytes() == text


def test_a_finished_run_without_a_card_is_given_one_by_an_export(tiny, tmp_path):
    run = run_of(tiny())
    expected = contents(run / "synthetic")
    (run / "synthetic" / CARD).unlink()
    succeed("export-data", run, "--to", "npz", "--out", tmp_path / "images.npz")
    assert contents(run / "synthetic") == expected


def test_a_data_set_that_cannot_be_written_is_exported_all_the_same(stored, tmp_path, monkeypatch):
    from dfshield.errors import InputError
    from dfshield.runs.export import export

    def refuse(folder, manifest):
        raise InputError(f"{folder}/{CARD}: Permission denied")

    monkeypatch.setattr(export, "keep_card", refuse)
    folder, _ = stored
    answer = succeed("export-data", folder.local, "--to", "ray", "--out", tmp_path / "out")
    assert "left without a card" in answer.err
    assert (tmp_path / "out" / CARD).exists()


def test_a_set_of_which_nothing_stays_has_no_card(tiny):
    config = tiny(keep=("teacher",), storage__sink="object_store")
    succeed("run", config)
    synthetic = run_of(config) / "synthetic"
    assert (synthetic / "manifest.json").exists()
    assert not (synthetic / CARD).exists()
    line = call("export-data", synthetic, "--to", "hf", "--out", "none").refusal()
    assert "3 of 3 parts are missing" in line
    assert "storage.sink=parquet" in line
