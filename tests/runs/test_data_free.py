"""Nothing between `teacher` and `evaluate` touches a real image in what claims to be data-free."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tiny_run import call, succeed, write_config

from dfshield.datasets import registry


@contextmanager
def without_loaders():
    """Real data sets are not to be had within the block."""

    def gone(*_):
        raise AssertionError("a real data set was asked for")

    with pytest.MonkeyPatch.context() as patch:
        for name in registry.DATASETS:
            patch.setitem(registry.DATASETS, name, gone)
        yield


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
    with without_loaders():
        succeed("synthesize", config)
        succeed("train", config)
    student = tmp_path / "runs" / "tiny" / "student"
    assert (student / "model.safetensors").is_file()
    assert json.loads((student / "config.json").read_text())["data_free"] is True

    line = call("evaluate", config).refusal()
    assert "evaluation.data" in line
    assert str(file) in line
    (tmp_path / "moved.npz").rename(file)
    # The loaders really were taken away.
    with without_loaders(), pytest.raises(AssertionError, match="a real data set was asked for"):
        call("evaluate", config)
    succeed("evaluate", config)

    real = f"training.images={{data: {{name: npz, path: {file}, split: train}}, labels: hard}}"
    with without_loaders(), pytest.raises(AssertionError, match="a real data set was asked for"):
        call("train", config, real)
