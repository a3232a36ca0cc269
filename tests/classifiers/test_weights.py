"""Weights of foreign origin: what is understood, what is refused and how."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dfshield.classifiers import Classifier, build, save
from dfshield.errors import InputError

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture(scope="module")
def teacher() -> Classifier:
    return build("dfshield:resnet8", num_classes=10, seed=7)


@pytest.fixture
def state(teacher: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}


def load(path: Path, **arguments) -> Classifier:
    return build("dfshield:resnet8", **{"num_classes": 10, "weights": path, **HALF, **arguments})


def refusal(path: Path, **arguments) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


WRAPPED: dict[str, Callable[[Mapping[str, Tensor]], object]] = {
    "plain": dict,
    "state_dict": lambda s: {"epoch": 3, "state_dict": dict(s)},
    "model": lambda s: {"model": dict(s), "optimizer": {"lr": 0.1}},
    "net": lambda s: {"net": dict(s)},
    "model_state_dict": lambda s: {"model_state_dict": dict(s)},
    "nested container": lambda s: {"model": {"state_dict": dict(s)}},
    "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "backbone.": lambda s: {f"backbone.{k}": v for k, v in s.items()},
    "three prefixes": lambda s: {f"_orig_mod.module.model.{k}": v for k, v in s.items()},
    "no num_batches_tracked": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "half precision": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_layouts_that_are_understood(wrap: str, state, teacher, tmp_path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPED[wrap](state), path)
    x = torch.rand(2, 3, 32, 32)
    tolerance = 1e-2 if wrap == "half precision" else 0
    torch.testing.assert_close(load(path)(x), teacher(x), atol=tolerance, rtol=tolerance)


def test_safetensors(state, teacher, tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, path)
    assert load(path).fingerprint() == teacher.fingerprint()


def test_saved_classifiers_bring_their_normalisation(tmp_path) -> None:
    own = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    original = build("dfshield:resnet8", num_classes=10, **own)
    save(original, tmp_path)
    path = tmp_path / "model.safetensors"
    torch.save({f"module.{k}": v for k, v in original.state_dict().items()}, tmp_path / "ddp.pt")
    for file in (path, tmp_path / "ddp.pt"):
        for given in ({"mean": None, "std": None}, own):
            assert load(file, **given).fingerprint() == original.fingerprint()
    assert "contradict" in refusal(path, **HALF)


def test_a_network_whose_own_names_look_like_a_prefix(tmp_path) -> None:
    (tmp_path / "prefixed_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        arguments = {"input_shape": (3, 2, 2), "num_classes": 4, **HALF}
        net = build("python:prefixed_net:Net", **arguments, seed=1)
        weights = net.network.state_dict()
        torch.save({f"module.{k}": v for k, v in weights.items()}, tmp_path / "net.pt")
        loaded = build("python:prefixed_net:Net", **arguments, weights=tmp_path / "net.pt")
        assert loaded.fingerprint() == net.fingerprint()


def test_foreign_weights_need_their_normalisation_said(state, tmp_path) -> None:
    torch.save(state, tmp_path / "w.pt")
    assert "mean, std" in refusal(tmp_path / "w.pt", mean=None, std=None)


def test_missing_file_and_folder(tmp_path) -> None:
    assert "no such" in refusal(tmp_path / "missing.pt")
    assert "folder" in refusal(tmp_path)


def test_keys_that_differ_are_named_five_at_most(state, tmp_path) -> None:
    renamed = {k.replace("layer3", "stage3"): v for k, v in state.items()}
    renamed["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save(renamed, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "10 missing: layer3.0.conv1.weight" in message
    assert "12 unexpected: stage3.0.conv1.weight" in message
    assert message.count("layer3.") == message.count("stage3.") == 5
    assert "1 of another shape: conv1.weight (16, 3, 5, 5) for (16, 3, 3, 3)" in message


def test_weights_of_another_architecture(tmp_path) -> None:
    other = build("pytorchcv:resnet20_cifar10")
    torch.save(other.network.state_dict(), tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "do not fit dfshield:resnet8" in message
    assert "unexpected" in message


def test_another_width_is_no_class_count(tmp_path) -> None:
    wide = build("dfshield:resnet8", num_classes=10, options={"width": 10})
    torch.save(wide.network.state_dict(), tmp_path / "w.pt")
    assert "of another shape" in refusal(tmp_path / "w.pt", options={"width": 20})
    assert "of another shape" in refusal(tmp_path / "w.pt", options={"width": 5})


def test_wrong_class_count(tmp_path) -> None:
    hundred = build("dfshield:resnet8", num_classes=100)
    torch.save(hundred.network.state_dict(), tmp_path / "w.pt")
    assert "the weights have 100 classes, num_classes is 10" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value: float, state, tmp_path) -> None:
    state["layer2.0.bn1.running_var"][3] = value
    state["linear.weight"][0, 0] = value
    torch.save(state, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "layer2.0.bn1.running_var" in message
    assert "linear" not in message


@pytest.mark.parametrize("new_format", [True, False])
def test_pickled_modules_are_refused(new_format: bool, teacher, tmp_path) -> None:
    path = tmp_path / "w.pt"
    torch.save(teacher.network, path, _use_new_zipfile_serialization=new_format)
    message = refusal(path)
    assert "CifarResNet" in message
    assert "torch.save(model.state_dict(), path)" in message


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_archives_are_refused(tmp_path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)).save(tmp_path / "w.pt")
    assert "torch.save(model.state_dict(), path)" in refusal(tmp_path / "w.pt")


def test_pickles_that_run_code_do_not(tmp_path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Payload()}, tmp_path / "w.pt")
    assert "Python objects" in refusal(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_checkpoints_with_python_objects_beside_the_weights(state, tmp_path) -> None:
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pt")
    assert "argparse.Namespace" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.98])
def test_truncated_files(suffix: str, share: float, state, tmp_path) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("content", [b"not weights at all", bytes(range(256)) * 8])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.filterwarnings("error")
def test_garbage(suffix: str, content: bytes, tmp_path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert "truncated, or not" in refusal(path)


def test_files_without_a_state_dict(state, tmp_path) -> None:
    for content, said in (
        ([1, 2], "list"),
        ({"epoch": 3, "weights": state}, "epoch, weights"),
        ({}, "no state_dict"),
        ({"mean": torch.zeros(3), "std": torch.ones(3)}, "missing"),
    ):
        torch.save(content, tmp_path / "w.pt")
        assert said in refusal(tmp_path / "w.pt")
