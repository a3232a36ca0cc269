"""Checkpoints: exact, atomic, checked, and never a way to run code."""

import hashlib
import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from dfshield.errors import DfshieldError
from dfshield.storage import load_checkpoint, save_checkpoint


def trained():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def test_round_trip(folder):
    with torch.random.fork_rng():
        model, optimizer = trained()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "counters": {"epoch": 3, "loss": 2.5e-5, "done": False, "note": None, 5: (1, 2)},
        "raw": b"\0\1",
        "names": ["a", {"b"}],
        "rng": torch.get_rng_state(),
    }
    save_checkpoint(folder, "epoch/state.ckpt", state)
    loaded = load_checkpoint(folder, "epoch/state.ckpt")
    assert {k: loaded[k] for k in ("counters", "raw", "names")} == {
        k: state[k] for k in ("counters", "raw", "names")
    }
    for name, value in model.state_dict().items():
        assert torch.equal(loaded["model"][name], value)
    optimizer.load_state_dict(loaded["optimizer"])
    first = folder.read_bytes("epoch/state.ckpt")
    save_checkpoint(folder, "epoch/state.ckpt", state)
    assert folder.read_bytes("epoch/state.ckpt") == first
    save_checkpoint(folder, "epoch/state.ckpt", OrderedDict(a=1))
    assert load_checkpoint(folder, "epoch/state.ckpt") == {"a": 1}
    assert folder.list() == ["epoch/state.ckpt"]


def test_absent(folder):
    assert load_checkpoint(folder, "state.ckpt") is None


@pytest.mark.parametrize(
    "value",
    [np.float64(1), np.zeros(2), Path("x"), random.Random(0), lambda: 0, DfshieldError("x")],
    ids=lambda v: type(v).__name__,
)
def test_what_could_not_be_read_back_is_not_written(folder, value):
    save_checkpoint(folder, "state.ckpt", {"a": 1})
    with pytest.raises(TypeError, match=rf"state\['x'\]\[1\]: .* not {type(value).__name__}"):
        save_checkpoint(folder, "state.ckpt", {"x": [0, value]})
    assert load_checkpoint(folder, "state.ckpt") == {"a": 1}


def assert_broken(folder):
    with pytest.raises(DfshieldError) as caught:
        load_checkpoint(folder, "state.ckpt")
    assert str(caught.value).startswith(f"{folder.local}/state.ckpt: ")
    assert "delete it to start this stage afresh" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncation_and_tampering(folder):
    save_checkpoint(folder, "state.ckpt", {"a": torch.arange(100)})
    good = folder.read_bytes("state.ckpt")
    for size in (0, 1, 40, 86, 87, len(good) // 2, len(good) - 1):
        folder.write_bytes("state.ckpt", good[:size])
        assert_broken(folder)
    for offset in range(0, len(good), 37):
        folder.write_bytes(
            "state.ckpt", good[:offset] + bytes([good[offset] ^ 1]) + good[offset + 1 :]
        )
        assert_broken(folder)
    folder.write_bytes("state.ckpt", good + b"x")
    assert_broken(folder)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["torch", "pickle", "garbage", "list"])
def test_malicious_pickle_with_a_right_checksum_is_not_executed(folder, tmp_path, how):
    target = tmp_path / "executed"
    if how == "torch":
        torch.save({"x": Payload(target)}, tmp_path / "file")
    elif how == "list":
        torch.save([1], tmp_path / "file")
    else:
        (tmp_path / "file").write_bytes(
            pickle.dumps({"x": Payload(target)}, protocol=2) if how == "pickle" else b"garbage"
        )
    data = (tmp_path / "file").read_bytes()
    checksum = hashlib.sha256(data).hexdigest()
    folder.write_bytes("state.ckpt", f"dfshield-checkpoint-1 {checksum}\n".encode() + data)
    assert_broken(folder)
    assert not target.exists()
