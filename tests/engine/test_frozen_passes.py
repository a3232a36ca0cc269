"""Passes of models that are attacked: one size whatever is asked, the model's own answers."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from dfshield.attacks import PGD, AutoAttack
from dfshield.classifiers import Classifier, build
from dfshield.defences import DEFENCES
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.frozen_passes import FrozenPasses
from dfshield.evaluation import evaluate_slice
from dfshield.evaluation.slices import robust_images

PLAIN = Acceleration()


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build(
            "dfshield:resnet8", input_shape=(1, 8, 8), num_classes=5, mean=[0.5], std=[0.25]
        )
        made.train()
        for _ in range(20):  # statistics of its own images
            made(torch.rand(32, 1, 8, 8))
    return made.eval()


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


def passes_of(model, size=4):
    return FrozenPasses(model, image_shape=(1, 8, 8), acceleration=PLAIN, images_per_pass=size)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_pass_has_one_size_and_answers_are_the_models(model, count):
    passes, sizes = passes_of(model), []
    next(
        m for m in passes.modules() if isinstance(m, Classifier)
    ).network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    x = images(count).requires_grad_()
    logits = passes(x)
    assert set(sizes) == {4}
    expected = model(x)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    chosen = torch.arange(count) % 5
    of_passes, of_model = (
        torch.autograd.grad(found.gather(1, chosen[:, None]).sum(), [x])[0]
        for found in (logits, expected)
    )
    torch.testing.assert_close(of_passes, of_model, rtol=1e-3, atol=1e-5)


def test_the_model_is_not_touched_and_what_becomes_of_it_does_not_show(model):
    changing = deepcopy(model).train()
    before = {key: value.clone() for key, value in changing.state_dict().items()}
    passes = passes_of(changing)
    x = images(6)
    first = passes(x)
    assert changing.training
    assert all(p.requires_grad for p in changing.parameters())
    assert all(torch.equal(v, before[k]) for k, v in changing.state_dict().items())
    with torch.no_grad():
        for parameter in changing.parameters():
            parameter.zero_()
    assert torch.equal(passes(x), first)


def test_layers_that_cannot_be_folded_answer_as_before():
    network = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten()
    )
    with torch.no_grad():
        network[0].running_mean.fill_(0.4)
        network[3].running_var.fill_(0.2)
    wrapped = Classifier.wrap(network.eval(), input_shape=(1, 8, 8))
    x = images(5)
    torch.testing.assert_close(passes_of(wrapped)(x), wrapped(x), rtol=1e-4, atol=1e-5)


def test_a_defended_model_is_computed_as_it_is(model):
    defended = DEFENCES.make("tte").wrap(model)
    x = images(5)
    torch.testing.assert_close(passes_of(defended)(x), defended(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eps", [0.005, 0.02, 0.3])
def test_an_evaluation_comes_to_the_same_verdicts(model, eps):
    x = images(24)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 5  # wrong as they are
    for attack in (
        PGD(eps=eps, num_steps=5),
        AutoAttack(
            eps=eps,
            version="custom",
            attacks="apgd-ce,apgd-t,fab-t,square",
            num_steps=8,
            targets=2,
            queries=40,
        ),
    ):
        plain = evaluate_slice(model, x, y, attack, seed=1)
        attack.leave_broken = True
        fast = evaluate_slice(model, x, y, attack, seed=1, attacked=passes_of(model, 8))
        assert robust_images(plain).tolist() == robust_images(fast).tolist()
