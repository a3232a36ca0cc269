"""Passes in pieces: logits and gradients of an image are those of a pass of its piece."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "attacks"))
from attack_table import quick

from dfshield.engine.pieces import InPieces
from dfshield.errors import InputError

SHAPE, CLASSES = (1, 6, 6), 10


class Watched(nn.Module):
    """A small network that notes how many images go through it at once."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)
        )
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=rng)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        return self.network(images)


@pytest.fixture
def model():
    return Watched().eval()


@pytest.fixture
def images():
    return torch.rand(11, *SHAPE, generator=torch.Generator().manual_seed(1))


def gradient(model, images):
    images = images.clone().requires_grad_()
    logits = model(images)
    losses = (logits.square().sum(), logits[:, 0].sum())
    found = [torch.autograd.grad(loss, [images], retain_graph=True)[0] for loss in losses]
    return [logits.detach(), *found]


def test_every_piece_is_computed_as_by_itself(model, images):
    found = gradient(InPieces(model, most=4), images)
    assert max(model.sizes) == 4
    each = [gradient(model, piece) for piece in images.split(4)]
    for whole, of_pieces in zip(found, zip(*each, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(of_pieces))


def test_only_what_is_larger_is_cut_and_nothing_twice_without_a_gradient(model, images):
    pieces = InPieces(model, most=4)
    pieces(images[:4].requires_grad_())
    with torch.no_grad():
        pieces(images)
    assert model.sizes == [4, 4, 4, 3]
    with pytest.raises(InputError, match="most"):
        InPieces(model, most=0)


def test_global_generators_stay_as_they_are(model, images):
    before = torch.get_rng_state()
    gradient(InPieces(model, most=4), images)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["pgd", "apgd-t", "fab-t"])
def test_attacks_find_what_they_find_in_whole_passes(model, images, name):
    attack = quick(name, "linf", other=model, eps=0.1)
    y = model(images).argmax(1)
    whole = attack(model, images, y, seed=3)
    model.sizes.clear()
    found = attack(InPieces(model, most=4), images, y, seed=3)
    assert max(model.sizes) <= 4
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)
