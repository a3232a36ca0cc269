"""Feature spaces against direct computations of what they stand for."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from dfshield.classifiers import build
from dfshield.diversity.features import (
    FEATURE_SPACES,
    Pixels,
    TeacherFeatures,
    Vgg16Features,
    vgg16,
)
from dfshield.errors import InputError


@pytest.fixture
def images():
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_pixels_are_the_images(images):
    assert torch.equal(Pixels()(images), images.view(3, 64))


def test_penultimate_features_make_the_logits(images):
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10).train()
    features = TeacherFeatures(model=teacher)(images)
    assert teacher.training
    assert features.shape == (3, 64)
    with torch.no_grad():
        assert torch.allclose(teacher.network.linear(features), teacher.eval()(images), atol=1e-6)
    whole = TeacherFeatures(model=teacher, layer="network.conv1")(images)
    assert torch.allclose(whole, teacher.normalise(images).flatten(1))


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    """The state_dict of a VGG-16 with few channels, in a file; the real one has 138 million."""
    monkeypatch.setattr(vgg16, "STAGES", ((2, 3), (3, 3), (4, 4, 4), (4, 4, 4), (5, 5, 5)))
    monkeypatch.setattr(vgg16, "HIDDEN", 6)
    monkeypatch.setattr(vgg16, "CLASSES", 4)
    torch.manual_seed(0)
    state = {name: 0.5 * torch.randn_like(t) for name, t in vgg16.Vgg16().state_dict().items()}
    torch.save(state, tmp_path / "vgg16.pth")
    save_file(state, tmp_path / "vgg16.safetensors")
    return state, tmp_path


@pytest.mark.parametrize("file", ["vgg16.pth", "vgg16.safetensors"])
def test_vgg16_computes_fc2_of_resized_normalised_images(narrow, images, file):
    state, folder = narrow
    found = Vgg16Features(weights=str(folder / file))(images)
    x = F.interpolate(images.repeat(1, 3, 1, 1), (224, 224), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    x = (x - mean) / std
    pooled_after = (2, 7, 14, 21, 28)
    for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        of = f"features.{place}"
        x = F.relu(F.conv2d(x, state[f"{of}.weight"], state[f"{of}.bias"], padding=1))
        if place in pooled_after:
            x = F.max_pool2d(x, 2)
    x = x.flatten(1)
    for place in (0, 3):
        of = f"classifier.{place}"
        x = F.relu(F.linear(x, state[f"{of}.weight"], state[f"{of}.bias"]))
    assert found.shape == (3, 6)
    assert found.abs().max() > 0
    assert torch.allclose(found, x, rtol=1e-4, atol=1e-4)


def test_the_whole_vgg16_has_the_published_weights():
    with torch.device("meta"):
        network = vgg16.Vgg16()
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert len(shapes) == 32
    assert sum(t.numel() for t in network.parameters()) == 138_357_544
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.6.bias"] == (1000,)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_vgg16_reads_no_other_file(narrow, capsys):
    state, folder = narrow
    torch.save({"state_dict": Evil()}, folder / "evil.pth")
    torch.save({**state, "features.0.weight": torch.zeros(9, 3, 3, 3)}, folder / "other.pth")
    for file, said in (
        ("evil.pth", "holds Python objects"),
        ("other.pth", "the weights do not fit vgg16: 1 of another shape: features.0.weight"),
        ("none.pth", "no such weights file"),
    ):
        with pytest.raises(InputError, match=said):
            Vgg16Features(weights=str(folder / file))
    assert "run" not in capsys.readouterr().out


class Nothing(nn.Module):
    def forward(self, x):
        return x.mean((1, 2, 3), keepdim=True).flatten(1).repeat(1, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FEATURE_SPACES.make("vgg19"), "name: feature space 'vgg19' is unknown: did you m"),
        (lambda: FEATURE_SPACES.make("vgg16"), "weights: is missing, which vgg16 needs"),
        (lambda: TeacherFeatures(model=Nothing())(torch.rand(2, 1, 4, 4)), "layer: no linear or"),
        (lambda: Pixels()(torch.rand(2, 1, 4, 4) / 0), "features: pixels gives NaN or infinite"),
    ],
)
def test_what_makes_no_features_is_told_in_one_line(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(said)
