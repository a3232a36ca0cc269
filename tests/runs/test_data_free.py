"""Nothing between `teacher` and `evaluate` touches a real image in what claims to be data-free."""

import json
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tiny_run import call, ended, start, succeed, write_config

WITHOUT_LOADERS = """
from dfshield.datasets import registry

def gone(*_):
    raise AssertionError("a real data set was asked for")

registry.DATASETS.update(dict.fromkeys(registry.DATASETS, gone))
from dfshield.cli.main import main
main()
"""


@pytest.mark.slow
def test_synthesis_and_training_need_no_real_image(tmp_path):
    digits = load_digits()
    file = tmp_path / "real.npz"
    images = (digits.images / 16).astype(np.float32)
    np.savez(file, images=images[:400], labels=digits.target[:400])
    config = write_config(
        tmp_path,
        teacher__train={"data": {"name": "npz", "path": str(file)}, "epochs": 2},
        evaluation__data={"name": "npz", "path": str(file)},
    )
    succeed("teacher", config)
    file.rename(tmp_path / "moved.npz")
    for stage in ("synthesize", "train"):
        answer = ended(start(stage, config, command=[sys.executable, "-c", WITHOUT_LOADERS]))
        assert answer.code == 0, answer
    student = tmp_path / "runs" / "tiny" / "student"
    assert (student / "model.safetensors").is_file()
    assert json.loads((student / "config.json").read_text())["data_free"] is True

    line = call("evaluate", config).refusal()
    assert "evaluation.data" in line
    assert str(file) in line
    (tmp_path / "moved.npz").rename(file)
    broken = ended(start("evaluate", config, command=[sys.executable, "-c", WITHOUT_LOADERS]))
    assert "a real data set was asked for" in broken.err  # the loaders really were taken away
    succeed("evaluate", config)

    real = f"training.images={{data: {{name: npz, path: {file}, split: train}}, labels: hard}}"
    reference = ended(start("train", config, real, command=[sys.executable, "-c", WITHOUT_LOADERS]))
    assert "a real data set was asked for" in reference.err
