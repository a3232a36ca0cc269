"""A classifier on disk: what is written comes back, what was touched is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import dfshield
from dfshield.classifiers import Classifier, build, load, save
from dfshield.errors import InputError, UnfitDeviceError


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build(
        "dfshield:resnet8",
        input_shape=(1, 8, 9),
        class_names=("no", "yes", "perhaps"),
        options={"width": 4},
        mean=(0.485,),
        std=(0.229,),
        seed=11,
    )


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    save(classifier, tmp_path / "student")
    return tmp_path / "student"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))


def refusal(folder: Path, **arguments) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(classifier: Classifier, folder: Path) -> None:
    loaded = load(folder)
    assert not loaded.training
    assert loaded.architecture == classifier.architecture
    assert loaded.fingerprint() == classifier.fingerprint()
    assert loaded.class_names == ("no", "yes", "perhaps")
    x = torch.rand(5, 1, 8, 9)
    assert torch.equal(loaded(x), classifier(x))
    assert dfshield.load(str(folder)).fingerprint() == classifier.fingerprint()


@pytest.mark.parametrize("source", ["medmnist:resnet18", "pytorchcv:resnet20_cifar100"])
def test_round_trip_of_other_families(source: str, tmp_path: Path) -> None:
    original = build(source, num_classes=9 if "med" in source else None)
    save(original, tmp_path)
    assert load(tmp_path).fingerprint() == original.fingerprint()


def test_round_trip_of_a_factory_with_tied_weights(tmp_path: Path) -> None:
    original = build(
        "python:classifier_factories:tied",
        input_shape=(3, 2, 2),
        num_classes=5,
        options={"classes": 5},
    )
    save(original, tmp_path)
    loaded = load(tmp_path, trust_python=True)
    assert loaded.fingerprint() == original.fingerprint()
    assert loaded.network.first.weight is loaded.network.second.weight


def test_a_folder_cannot_make_load_call_what_it_names(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    witness = tmp_path / "called"
    config["architecture"]["source"] = "python:os:mkdir"
    config["architecture"]["options"] = {"path": str(witness)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"calls os:mkdir .* trust_python=True"):
        load(folder)
    assert not witness.exists()


def test_round_trip_of_other_precisions(tmp_path: Path) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        original = build("dfshield:resnet8", num_classes=2).to(dtype)
        save(original, tmp_path)
        assert load(tmp_path).fingerprint() == original.fingerprint()


def test_trained_weights_and_statistics_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trained = build("dfshield:resnet8", num_classes=4, options={"width": 2})
    for tensor in trained.network.state_dict().values():
        tensor.copy_(torch.from_numpy(rng.uniform(0.5, 9, tuple(tensor.shape))))
    save(trained.train(), tmp_path)
    loaded = load(tmp_path)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_equal_classifiers_give_equal_bytes(classifier: Classifier, tmp_path: Path) -> None:
    save(classifier, tmp_path / "a")
    save(load(tmp_path / "a").train(), tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with safe_open(tmp_path / "a" / "model.safetensors", "pt") as file:
        assert len(file.metadata()) <= 1


def test_config_reads_as_it_was_given(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    assert (config["mean"], config["std"]) == ([0.485], [0.229])
    assert config["architecture"]["class_names"] == ["no", "yes", "perhaps"]


def test_saving_again_replaces_and_leaves_other_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("kept")
    other = build("dfshield:resnet8", num_classes=2, seed=5)
    save(other, folder, card="# Card\n")
    assert load(folder).fingerprint() == other.fingerprint()
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "notes.txt",
    }
    assert (folder / "README.md").read_text() == "# Card\n"


def test_a_failed_save_leaves_the_old_files(classifier: Classifier, folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    (folder / "README.md").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(InputError, match="cannot be written"):
        save(build("dfshield:resnet8", num_classes=2), folder, card="card")
    assert (folder / "model.safetensors").read_bytes() == before
    assert load(folder).fingerprint() == classifier.fingerprint()
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_a_folder_that_cannot_be_made(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/student: cannot be written"):
        save(classifier, tmp_path / "file" / "student")


def test_a_full_disk_leaves_nothing_half_written(classifier: Classifier, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            save(classifier, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


def test_tampered_weights_are_told(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["network.conv1.weight"][0, 0, 0, 0] += 1e-6
    save_file(tensors, path, metadata={"format": "pt"})
    assert "fingerprint" in refusal(folder)


def test_a_flipped_bit_is_told(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 3}, "format_version 3"),
        ({"format_version": None}, "dfshield did not write it"),
        ({"mean": [0.5]}, "fingerprint"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"std": ["wide"]}, "mean, std"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"fingerprint": None}, "fingerprint"),
        ({"architecture": {"source": "dfshield:resnet8"}}, "architecture"),
    ],
)
def test_an_edited_config_is_told(folder: Path, changes: dict, said: str) -> None:
    edit(folder, **changes)
    message = refusal(folder)
    assert said in message
    assert str(folder) in message


def test_a_config_for_another_network(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"source": "dfshield:resnet20"}, "missing"),
        ({"source": "dfshield:resnet9"}, "config.json: source"),
        ({"class_names": ["a", "b", "c"]}, "fingerprint"),
    ):
        edit(folder, architecture=config["architecture"] | change)
        assert said in refusal(folder)


def test_missing_and_damaged_files(folder: Path, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere")
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert "dfshield did not write it" in refusal(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors: no such" in refusal(folder)


def test_a_device_that_is_not_there(folder: Path) -> None:
    for device in ("cuda:99", "gpu"):
        assert device in refusal(folder, device=device)


@pytest.mark.parametrize(
    ("error", "device", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "cuda", UnfitDeviceError),
        (torch.AcceleratorError("CUDA error: busy"), "cuda:1", UnfitDeviceError),
        (torch.AcceleratorError("CUDA error: invalid device ordinal"), "cuda:2", InputError),
        (RuntimeError("No CUDA GPUs are available"), "cuda", InputError),
    ],
)
def test_a_device_that_is_there_but_busy_is_no_wrong_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, device: str, expected: type
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(Classifier, "to", fail)
    with pytest.raises(expected) as raised:
        load(folder, device=device)
    assert type(raised.value) is expected
    assert device in str(raised.value)
    assert "\n" not in str(raised.value)
