"""Checkpoints: exact, atomic, checked, and never a way to run code."""

import hashlib
import io
import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from dfshield.errors import DfshieldError
from dfshield.storage import Checkpoint

HOLDS = "test"


def file_in(folder, **changes):
    return Checkpoint(folder, "state.ckpt", **{"holds": HOLDS, **changes})


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
    Checkpoint(folder, "epoch/state.ckpt", HOLDS).save(state)
    loaded = Checkpoint(folder, "epoch/state.ckpt", HOLDS).load()
    assert {k: loaded[k] for k in ("counters", "raw", "names")} == {
        k: state[k] for k in ("counters", "raw", "names")
    }
    for name, value in model.state_dict().items():
        assert torch.equal(loaded["model"][name], value)
    optimizer.load_state_dict(loaded["optimizer"])
    first = folder.read_bytes("epoch/state.ckpt")
    Checkpoint(folder, "epoch/state.ckpt", HOLDS).save(state)
    assert folder.read_bytes("epoch/state.ckpt") == first
    Checkpoint(folder, "epoch/state.ckpt", HOLDS).save(OrderedDict(a=1))
    assert Checkpoint(folder, "epoch/state.ckpt", HOLDS).load() == {"a": 1}
    assert folder.list() == ["epoch/state.ckpt"]


def test_absent(folder):
    assert file_in(folder).load() is None


@pytest.mark.parametrize(
    "value",
    [np.float64(1), np.zeros(2), Path("x"), random.Random(0), lambda: 0, DfshieldError("x")],
    ids=lambda v: type(v).__name__,
)
def test_what_could_not_be_read_back_is_not_written(folder, value):
    file_in(folder).save({"a": 1})
    with pytest.raises(TypeError, match=rf"state\['x'\]\[1\]: .* not {type(value).__name__}"):
        file_in(folder).save({"x": [0, value]})
    assert file_in(folder).load() == {"a": 1}


def write_raw(folder, state):
    """Write a state as the first releases did, whose files carry no version."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    header = f"dfshield-checkpoint-1 {checksum}\n".encode()
    folder.write_bytes("state.ckpt", header + buffer.getvalue())


def test_a_file_without_a_version_is_of_version_1(folder):
    write_raw(folder, {"a": 1})
    assert file_in(folder, keys=("a",)).load() == {"a": 1}
    with pytest.raises(DfshieldError, match=r"version 1; .* version 2") as refused:
        file_in(folder, version=2).load()
    assert "delete it to start this stage afresh" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "a test, version 1; this dfshield reads a test, version 2"),
        ({"holds": "training"}, "a test, version 1; this dfshield reads a training, version 1"),
        ({"keys": ("a", "b", "c")}, "lacks b, c"),
    ],
)
def test_a_state_of_another_kind_is_refused_by_file(folder, changes, said):
    file_in(folder).save({"a": 1})
    with pytest.raises(DfshieldError, match=said) as refused:
        file_in(folder, **changes).load()
    assert str(refused.value).startswith(f"{folder.local}/state.ckpt: ")


def test_a_version_that_is_none_is_refused(folder):
    write_raw(folder, {"a": 1, "content": 3})
    with pytest.raises(DfshieldError, match=r"state\.ckpt"):
        file_in(folder).load()


def assert_broken(folder):
    with pytest.raises(DfshieldError) as caught:
        file_in(folder).load()
    assert str(caught.value).startswith(f"{folder.local}/state.ckpt: ")
    assert "delete it to start this stage afresh" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncation_and_tampering(folder):
    file_in(folder).save({"a": torch.arange(100)})
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
