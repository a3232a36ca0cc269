"""Naming a classifier: every family, every refusal."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dfshield.classifiers import (
    NETWORK_FAMILIES,
    Architecture,
    batchnorm_layers,
    build,
    require_hardenable,
)
from dfshield.classifiers.network_families import pytorchcv_models
from dfshield.errors import DfshieldError, InputError

TINY = {"input_shape": (3, 2, 2), "num_classes": 4}


def refusal(**arguments) -> str:
    """Return the error of a build that must be refused, after checking that it is one line."""
    with pytest.raises(InputError) as caught:
        build(**{"num_classes": 10, **arguments})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_family_imports_torchvision() -> None:
    program = """
import sys
from dfshield.classifiers import build
for source in ("dfshield:resnet8", "medmnist:resnet18", "pytorchcv:resnet20_cifar10",
               "python:dfshield.classifiers:CifarResNet"):
    options = {"depth": 8} if source.startswith("python") else {}
    build(source, num_classes=10, input_shape=(3, 28, 28) if "med" in source else (3, 32, 32),
          options=options)
assert "torchvision" not in sys.modules
assert "ray" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pytorchcv_offers_every_resnet_and_wrn() -> None:
    names = pytorchcv_models()
    depths = ["20", "56", "110", "164bn", "272bn", "542bn", "1001", "1202"]
    networks = [f"resnet{depth}" for depth in depths] + ["wrn16_10", "wrn28_10", "wrn40_8"]
    assert set(names) == {
        f"{network}_{data}" for network in networks for data in ("cifar10", "cifar100", "svhn")
    }


@pytest.mark.parametrize("name", ["resnet20_svhn", "resnet56_cifar10", "wrn16_10_cifar100"])
def test_pytorchcv_names_imply_shape_classes_and_normalisation(name: str) -> None:
    with torch.device("meta"):
        classifier = build(f"pytorchcv:{name}")
    assert classifier.input_shape == (3, 32, 32)
    assert classifier.num_classes == (100 if name.endswith("100") else 10)
    real = build("pytorchcv:resnet20_svhn")
    assert real.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    assert real.std.flatten().tolist() == pytest.approx([0.2023, 0.1994, 0.2010])


# 36.48 M: Zagoruyko and Komodakis 2016 and the size pytorchcv publishes.
@pytest.mark.parametrize(
    ("name", "parameters"), [("wrn28_10_cifar10", 36_479_194), ("resnet20_cifar10", 272_474)]
)
def test_pytorchcv_networks_have_the_published_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build(f"pytorchcv:{name}").network
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_default_normalisation_is_one_half_for_fresh_weights() -> None:
    for source in ("dfshield:resnet8", "medmnist:resnet18"):
        classifier = build(source, input_shape=(1, 28, 28), num_classes=9)
        assert classifier.mean.tolist() == classifier.std.tolist() == [[[[0.5]]]]


def test_normalisation_happens_inside_and_is_undone() -> None:
    classifier = build(
        "dfshield:resnet8", num_classes=10, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25)
    )
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.1, 0.2, 0.3], [1, 0.5, 0.25]))
    z = (x - mean) / std
    torch.testing.assert_close(classifier.normalise(x), z)
    torch.testing.assert_close(classifier.denormalise(z), x)
    torch.testing.assert_close(classifier(x), classifier.network(z))
    assert classifier.denormalise(z + 100).max() > 1


def test_seed_decides_fresh_weights_and_global_state_is_untouched() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = (build("dfshield:resnet8", num_classes=10, seed=3) for _ in range(2))
    other = build("dfshield:resnet8", num_classes=10, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    cv = [build("pytorchcv:resnet20_cifar10", seed=1).fingerprint() for _ in range(2)]
    assert cv[0] == cv[1]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_fingerprint_sees_every_weight_and_no_mode() -> None:
    classifier = build("dfshield:resnet8", num_classes=10)
    original = classifier.fingerprint()
    assert not classifier.training
    assert classifier.train().fingerprint() == original
    strided = copy.deepcopy(classifier).to(memory_format=torch.channels_last)
    assert strided.fingerprint() == original
    seen = {original}
    for name, tensor in classifier.state_dict().items():
        changed = copy.deepcopy(classifier)
        changed.state_dict()[name].view(-1)[-1] += 1
        seen.add(changed.fingerprint())
        assert not torch.equal(changed.state_dict()[name], tensor)
    assert len(seen) == len(classifier.state_dict()) + 1
    renamed = build("dfshield:resnet8", class_names=[f"class {k}" for k in range(10)])
    assert renamed.fingerprint() not in seen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fingerprint_does_not_depend_on_the_device() -> None:
    classifier = build("dfshield:resnet8", num_classes=10)
    original = classifier.fingerprint()
    assert classifier.to("cuda").fingerprint() == original


def test_deep_copy_is_independent_and_trains() -> None:
    classifier = build("dfshield:resnet8", class_names=("cat", "dog"))
    student = copy.deepcopy(classifier).train()
    x = torch.rand(4, 3, 32, 32)
    student(x).square().sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter -= 0.1 * parameter.grad
    assert student.class_names == ("cat", "dog")
    assert student.fingerprint() != classifier.fingerprint()
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_batchnorm_layers_are_those_with_running_statistics_in_order() -> None:
    network = build("dfshield:resnet8", num_classes=10).network
    assert [name for name, _ in batchnorm_layers(network)] == [
        "bn1",
        *(f"layer{s}.0.bn{b}" for s in (1, 2, 3) for b in (1, 2)),
    ]
    unusual = build("python:classifier_factories:unusual_batchnorm", **TINY)
    assert [name for name, _ in batchnorm_layers(unusual)] == ["network.2", "network.5"]
    require_hardenable(unusual)


def test_a_classifier_without_batchnorm_is_refused_with_the_reason() -> None:
    classifier = build("python:classifier_factories:linear", **TINY)
    with pytest.raises(InputError, match=r"no BatchNorm layer.*eq\. 4"):
        require_hardenable(classifier)


def test_images_of_another_shape_are_refused() -> None:
    classifier = build("dfshield:resnet8", num_classes=10)
    with pytest.raises(InputError, match=r"\(3, 28, 28\) given.*\(3, 32, 32\)"):
        classifier(torch.rand(1, 3, 28, 28))


def test_architecture_survives_json() -> None:
    architecture = Architecture("x:y", {"widths": (1, 2), "a": None}, (1, 8, 8), 2, ("no", "yes"))
    assert Architecture.from_json(architecture.to_json()) == architecture
    with pytest.raises(InputError, match="num_classes"):
        Architecture.from_json({**architecture.to_json(), "num_classes": "2"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "resnet20"}, "family:name"),
        ({"source": "pytorchvc:resnet20_cifar10"}, "did you mean 'pytorchcv'"),
        ({"source": "dfshield:resnet18"}, "has no model 'resnet18'; did you mean 'resnet8'"),
        ({"source": "medmnist:resnet34"}, "did you mean 'resnet50'"),
        ({"source": "pytorchcv:resnet21_cifar10"}, "did you mean 'resnet20_cifar10'"),
        ({"source": "pytorchcv:CIFARResNet"}, "no CIFAR or SVHN model"),
        ({"source": "pytorchcv:resnet20_cifar10", "num_classes": 7}, "10 or 100 classes, not 7"),
        ({"source": "pytorchcv:resnet20_cifar10", "input_shape": (3, 28, 28)}, "(3, 32, 32)"),
        ({"source": "dfshield:resnet8", "options": {"widht": 4}}, "did you mean 'width'"),
        ({"source": "dfshield:resnet8", "options": {"width": 0}}, "width: 0"),
        ({"source": "dfshield:resnet8", "options": {"width": "wide"}}, "'wide'"),
        ({"source": "dfshield:resnet8", "options": {"width": object}}, "JSON"),
        ({"source": "medmnist:resnet18", "options": {"width": 4}}, "takes none"),
        ({"source": "dfshield:resnet8", "num_classes": None}, "num_classes"),
        ({"source": "dfshield:resnet8", "num_classes": 1}, "at least 2"),
        ({"source": "dfshield:resnet8", "class_names": ["a", "b"]}, "2 names"),
        ({"source": "dfshield:resnet8", "input_shape": (32, 32)}, "(32, 32)"),
        ({"source": "dfshield:resnet8", "input_shape": (0, 32, 32)}, "input_shape"),
        ({"source": "dfshield:resnet8", "mean": (0.5,) * 3}, "both or neither"),
        ({"source": "dfshield:resnet8", "mean": (0.5,), "std": (0.5,)}, "3 finite numbers"),
        ({"source": "dfshield:resnet8", "mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}, "positive"),
        ({"source": "dfshield:resnet8", "mean": (float("nan"),) * 3, "std": (1.0,) * 3}, "mean"),
        ({"source": "dfshield:resnet8", "weights": "download"}, "pytorchcv sources only"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict, said: str) -> None:
    assert said in refusal(**arguments)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("classifier_factories", {}, "python:package.module:factory"),
        ("no_such_package.models:net", {}, "PYTHONPATH"),
        ("classifier_factories:linaer", {}, "did you mean 'linear'"),
        ("classifier_factories:not_callable", {}, "nothing to call"),
        ("classifier_factories:returns_dict", {}, "returned dict"),
        ("classifier_factories:TupleNet", {}, "torch.float32 of shape (2, 3, 2, 2)"),
        ("classifier_factories:broken", {}, "LookupError: no such thing"),
        ("classifier_factories:leaves", {}, "SystemExit: 3"),
        ("classifier_factories:linear", {"depth": 3}, "depth"),
        ("classifier_factories:linear", {"size": 99}, "fails on images of shape (2, 3, 2, 2)"),
        ("classifier_factories:linear", {"classes": 7}, "(2, 7)"),
    ],
)
def test_bad_factories_are_refused_in_one_line(name: str, options: dict, said: str) -> None:
    message = refusal(source=f"python:{name}", options=options, **TINY)
    assert said in message
    assert "source" in message or "python:" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy\n1 / 0\n", "raised ZeroDivisionError: division by zero (line 2 of "),
        ("import no_such_thing\n", "raised ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def make(:\n", "raised SyntaxError: "),
        ("import json\njson.loads('{')\n", "raised JSONDecodeError: "),
        ("raise SystemExit(4)\n", "raised SystemExit: 4 (line 1 of "),
    ],
)
def test_a_module_that_fails_as_it_is_imported_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "failing_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    message = refusal(source="python:failing_module:make", **TINY)
    assert "cannot import 'failing_module': it was found, but " + said in message
    assert "failing_module.py" in message
    assert "PYTHONPATH" not in message


@pytest.mark.parametrize("module", ["no_such_package", "json.no_such_part", "no_such.part"])
def test_a_module_that_is_missing_is_called_so(module: str) -> None:
    message = refusal(source=f"python:{module}:make", **TINY)
    assert "the module must be installed or lie in a folder of PYTHONPATH" in message


def test_a_factory_needs_a_shape() -> None:
    assert "input_shape" in refusal(source="python:classifier_factories:linear")


def test_factories_take_options() -> None:
    classifier = build(
        "python:classifier_factories:linear",
        input_shape=(1, 2, 5),
        num_classes=3,
        options={"size": 10, "classes": 3},
    )
    assert classifier(torch.rand(6, 1, 2, 5)).shape == (6, 3)


def test_download_without_internet_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for scheme in ("http", "https"):
        # A port where nothing listens: every connection is refused at once.
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", "http://127.0.0.1:9")
    with pytest.raises(DfshieldError, match="give the file's path as weights") as caught:
        build("pytorchcv:resnet20_cifar10", weights="download")
    assert "\n" not in str(caught.value)
    assert "resnet20_cifar10" in str(caught.value)


def test_the_families_of_networks_by_name() -> None:
    assert set(NETWORK_FAMILIES) == {"dfshield", "medmnist", "pytorchcv", "python"}
