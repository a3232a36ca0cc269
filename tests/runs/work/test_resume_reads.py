"""How many bytes of the parts a resumed synthesis reads, counted by the store that sends them."""

import pytest
from s3_server import BUCKET
from tiny_run import contents, run_of, write_config

from dfshield.config import load_config
from dfshield.runs import Run
from dfshield.storage import Folder

FOOTER = 8192
SIZES = {
    "synthesis": {
        "num_images": 2000,
        "num_holdout": 0,
        "batch_size": 100,
        "method": {"name": "dss", "iterations": 1, "jitter": 0},
        "diversity": [{"name": "prediction-entropy", "num_images": 100}],
    },
    "storage__part_size": 500,
    "storage__shard_size": 1000,
}


@pytest.fixture
def make_run(finished, tmp_path, s3):
    """A function that gives the configuration of a run on the store which has a teacher."""
    teacher = contents(run_of(finished / "tiny.yaml") / "teacher")

    def make(name):
        path = f"s3://{BUCKET}/{name}"
        for file, content in teacher.items():
            Folder.at(f"{path}/tiny/teacher").write_bytes(file, content)
        config = write_config(tmp_path / name, **SIZES, storage__path=path)
        return load_config(str(config), ()), Folder.at(f"{path}/tiny/synthetic")

    return make


def stop_after(parts):
    """What raises in the place of a signal once so many parts have been committed."""
    committed = []

    def hear(event, fields):
        committed.extend([fields["path"]] if event == "part_committed" else [])
        if len(committed) == parts:
            raise KeyboardInterrupt

    return hear


def sent(s3):
    """The bytes that were sent of each part, by the end of its path."""
    return {p.partition("/data/")[2]: n for p, n in s3.sent.items() if p.endswith(".parquet")}


def test_little_is_read_and_the_set_is_that_of_an_uninterrupted_run(make_run, s3):
    config, data = make_run("whole")
    Run(config).run(["synthesize"])
    sizes = data.sizes("data")
    assert len(sizes) == 4
    # The footers, labels and logits of the diversity, and the first images of each class.
    assert sum(sent(s3).values()) < 0.2 * sum(sizes.values())
    expected = {name: data.read_bytes(name) for name in data.list()}

    config, data = make_run("stopped")
    with pytest.raises(KeyboardInterrupt):
        Run(config, hear=stop_after(3)).run(["synthesize"])
    assert "summary/shard-00000.json" in data.list()  # its parts are there
    assert len(data.list("data")) == 3
    s3.sent.clear()
    Run(config).run(["synthesize"])
    read = sent(s3)
    size = sizes["data/shard=00001/part-0000.parquet"]
    assert read["shard=00000/part-0001.parquet"] <= FOOTER
    assert read["shard=00000/part-0000.parquet"] < 0.3 * size  # its labels and logits are measured
    assert read["shard=00001/part-0000.parquet"] < 0.3 * size
    assert {name: data.read_bytes(name) for name in data.list()} == expected
