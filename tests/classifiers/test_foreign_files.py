"""Weights files under other names, of networks with odd names, and what is none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfshield.classifiers import build, load, save
from dfshield.errors import InputError

FACTORY = """
import torch
from torch import nn


class Normalising(nn.Module):
    '''Normalises inside, by buffers of its own.'''

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.1))
        self.register_buffer("std", torch.full((1, 1, 1, 1), 0.3))
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


class Scaled(nn.Sequential):
    '''Has a weight without a shape.'''

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(16, 3))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * super().forward(x)


def normed(value=1.0, name="running_var"):
    net = nn.Sequential(nn.Conv2d(1, 3, 4), nn.BatchNorm2d(3), nn.Flatten())
    getattr(net[1], name).data[1] = float(value)
    return net
"""
SHAPE = {"input_shape": (1, 4, 4), "num_classes": 3}


@pytest.fixture(scope="module", autouse=True)
def factories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("factories")
    (folder / "foreign.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def made(name, **arguments):
    return build(f"python:foreign:{name}", **SHAPE, **arguments)


def refusal(name, **arguments):
    with pytest.raises(InputError) as caught:
        made(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_network_with_the_names_of_a_classifier(prefix, tmp_path):
    other = made("Normalising", seed=5)
    state = {f"{prefix}{k}": v + 0.05 for k, v in other.network.state_dict().items()}
    torch.save(state, tmp_path / "own.pth")
    found = made("Normalising", weights=tmp_path / "own.pth")
    x = torch.rand(4, 1, 4, 4)
    other.network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items()})
    assert torch.equal(found(x), other(x))
    assert (found.mean.item(), found.std.item()) == (0, 1)
    save(found, tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved", trust_python=True)(x), other(x))


def test_a_saved_classifier_still_brings_its_normalisation(tmp_path):
    saved = made("Scaled", mean=[0.2], std=[0.4])
    save(saved, tmp_path / "saved")
    found = made("Scaled", weights=tmp_path / "saved/model.safetensors")
    assert found.mean.item() == pytest.approx(0.2)


def test_a_weight_without_a_shape(tmp_path):
    state = made("Scaled").network.state_dict()
    torch.save({**state, "scale": torch.ones(1)}, tmp_path / "own.pth")
    assert "1 of another shape: scale (1,) for ()" in refusal(
        "Scaled", weights=tmp_path / "own.pth"
    )


def test_the_one_name_too_many_is_told_apart_from_the_prefixed_ones(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 3, 4), nn.BatchNorm2d(3), nn.Flatten())
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    torch.save({**state, "extra": torch.ones(1)}, tmp_path / "own.pth")
    assert refusal("normed", weights=tmp_path / "own.pth").endswith("1 unexpected: extra")


@pytest.mark.parametrize("name", ["a.bin", "a.pth", "a", "a.safetensors"])
@pytest.mark.parametrize("how", ["safetensors", "torch", "old torch"])
def test_the_content_tells_what_a_file_is(name, how, tmp_path):
    state = made("Scaled", seed=3).network.state_dict()
    if how == "safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=how == "torch")
    x = torch.rand(4, 1, 4, 4)
    assert torch.equal(made("Scaled", weights=tmp_path / name)(x), made("Scaled", seed=3)(x))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        ("\n <html>", "a web page"),
        ('<?xml version="1.0"?><Error/>', "an XML document"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_was_fetched_in_place_of_a_file_is_called_that(content, what, suffix, tmp_path):
    path = Path(tmp_path / f"model.{suffix}")
    path.write_text(content)
    assert f"{path}: is {what}, no weights file" in refusal("Scaled", weights=path)


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (-1.0, "running_var", "1.running_var holds negative values, but is a variance"),
        (float("nan"), "running_mean", "1.running_mean holds NaN or infinite values"),
        (float("inf"), "weight", "1.weight holds NaN or infinite values"),
        (float("nan"), "bias", "1.bias holds NaN or infinite values"),
    ],
)
def test_values_that_cannot_be_are_told_of_a_factory_and_of_a_file(value, name, said, tmp_path):
    assert said in refusal("normed", options={"value": str(value), "name": name})
    state = made("normed").network.state_dict()
    state[f"1.{name}"][1] = value
    torch.save(state, tmp_path / "own.pth")
    assert f"{tmp_path / 'own.pth'}: {said}" in refusal("normed", weights=tmp_path / "own.pth")
