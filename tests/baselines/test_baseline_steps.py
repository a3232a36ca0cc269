"""A step of every baseline, computed by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_baselines import INNER, begun

from dfshield.seeds import RngStream, generator
from dfshield.synthesis import SquaredStatistics


def grads(loss, *modules):
    weights = [weight for module in modules for weight in module.parameters()]
    return torch.autograd.grad(loss, weights, allow_unused=True)


@torch.no_grad()
def first_adam(module, found, *, rate):
    """The first step of Adam: its means, without their bias, are the gradient and its square."""
    for weight, gradient in zip(module.parameters(), found, strict=True):
        if gradient is not None:
            weight -= rate * gradient / (gradient.square().sqrt() + 1e-8)
            weight.grad = gradient


@torch.no_grad()
def first_sgd(module, found, *, rate, nesterov=False, decay=0.0):
    """The first step of SGD, whose momentum is 0.9."""
    for weight, gradient in zip(module.parameters(), found, strict=True):
        step = gradient + decay * weight
        weight -= rate * (1.9 * step if nesterov else step)


def same(module, expected):
    """Where Adam's first step is the sign of a gradient that is rounding alone, it may differ."""
    certain = {k: w.grad.abs() > 1e-5 for k, w in expected.named_parameters() if w.grad is not None}
    masks = [mask.flatten() for mask in certain.values()]
    assert not masks or torch.cat(masks).double().mean() > 0.6
    near = 2e-4 if masks else 2e-6  # a bias that a BatchNorm takes away shows in its mean alone
    for name, value in module.state_dict().items():
        mask = certain.get(name, torch.ones_like(value, dtype=torch.bool))
        found, known = value[mask], expected.state_dict()[name][mask]
        atol = 2e-6 if name in certain else near
        torch.testing.assert_close(found, known, atol=atol, rtol=1e-4, msg=name)


def by_hand(fit):
    """Copies of student and generator, and the draws of the next step."""
    draw = generator(3, RngStream.BASELINE, fit.steps_done + 1)
    return copy.deepcopy(fit.student), copy.deepcopy(fit.network), draw


def normal(draw, *shape):
    return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))


def test_a_step_of_dast(teacher):
    fit = begun("dast", teacher, beta=0.1)
    student, network, draw = by_hand(fit)
    codes = torch.from_numpy(draw.random((9, 4), dtype=np.float32))
    order = draw.permutation(9)
    branches = torch.arange(9)[order] // 3
    images = network(codes[order], branches)
    answers = teacher(images.detach())
    adversarial = INNER(student, images.detach(), generator=draw)

    def imitation(logits):
        of_probabilities = (logits.softmax(1) - answers.softmax(1)).square().mean()
        return F.cross_entropy(logits, answers.argmax(1)) + 0.1 * of_probabilities

    loss = imitation(student.train()(adversarial))
    first_adam(student, grads(loss, student), rate=1e-4)
    clean = student(images)
    of_branches = F.cross_entropy(clean, branches)
    of_generator = torch.exp(-imitation(clean)) + 0.2 * of_branches
    for part, rate in ((network.branches, 1e-4), (network.trunk, 2e-4)):
        first_adam(
            part,
            torch.autograd.grad(of_generator, [*part.parameters()], retain_graph=True),
            rate=rate,
        )
    found = fit.step()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["loss_generator"] == pytest.approx(of_generator.item(), rel=1e-5)
    same(fit.student, student)
    same(fit.network, network)


@pytest.mark.parametrize("threshold", [0.0, 10.0])
def test_alpha_of_dast_becomes_the_term_of_the_branch_once_that_is_small(teacher, threshold):
    fit = begun("dast", teacher, alpha_threshold=threshold)
    first, second = fit.step(), fit.step()
    alpha = first["loss_branch"] if threshold else 0.2
    expected = np.exp(-second["loss_imitation"]) + alpha * second["loss_branch"]
    assert second["loss_generator"] == pytest.approx(expected, rel=1e-5)


def test_the_generator_of_dast_moves(teacher):
    fit = begun("dast", teacher)
    before = fit.generator_weights()
    fit.step()
    moved = [k for k, v in fit.generator_weights().items() if not torch.equal(v, before[k])]
    assert {name.split(".")[0] for name in moved} == {"branches", "trunk"}
    weights = [k for k in before if k.endswith("weight")]
    assert sum(name in moved for name in weights) == len(weights)


@pytest.mark.parametrize("gradient", ["differences", "exact"])
def test_a_step_of_dfme(teacher, gradient):
    fit = begun("dfme", teacher, gradient=gradient, student_steps=1)
    student, network, draw = by_hand(fit)

    def target(images):
        known = teacher(images).log_softmax(1)
        return known - known.mean(1, keepdim=True)

    def value(made):
        images = (1 + made.tanh()) / 2
        return -(student.eval()(images) - target(images)).abs().mean(1)

    made = network.preactivation(normal(draw, 9, 5))
    values = value(made)
    if gradient == "exact":
        along = torch.autograd.grad(values.mean(), made, retain_graph=True)[0]
    else:
        unit = normal(draw, 1, 9, 1, 8, 8)[0]
        unit = unit / unit.square().sum((1, 2, 3), keepdim=True).sqrt()
        slope = (value(made.detach() + 1e-3 * unit) - values) / 1e-3
        along = (64 * slope[:, None, None, None] * unit / 9).detach()
    weights = [*network.parameters()]
    first_adam(network, torch.autograd.grad(made, weights, along), rate=1e-4)
    images = network(normal(draw, 9, 5)).detach()
    adversarial = INNER(student, images, generator=draw)
    loss = (student.train()(adversarial) - target(images).detach()).abs().mean()
    first_sgd(student, grads(loss, student), rate=0.1, decay=5e-4)
    found = fit.step()
    assert found["loss_generator"] == pytest.approx(values.mean().item(), rel=1e-5)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for name, weight in fit.student.named_parameters():
        torch.testing.assert_close(weight, student.get_parameter(name), atol=2e-4, rtol=1e-3)
    same(fit.network, network)


def test_a_step_of_ait(teacher):
    fit = begun("ait", teacher)
    fit.step(), fit.step()  # the generator alone
    assert all(
        torch.equal(a, b)
        for a, b in zip(fit.student.parameters(), teacher.parameters(), strict=True)
    )
    student, network, draw = by_hand(fit)
    labels = torch.from_numpy(draw.integers(3, size=9))
    normalised = network.preactivation(normal(draw, 9, 5) * network.embedding(labels))
    statistics = SquaredStatistics(teacher.network)
    with statistics.recording():
        of_classes = F.cross_entropy(teacher.network(normalised), labels)
    of_generator = of_classes + 0.1 * statistics.loss()
    images = (normalised.detach() * teacher.std + teacher.mean).clamp(0, 1)
    adversarial = INNER(student, images, generator=draw)
    clean, attacked = student.train()(images), student(adversarial)
    apart = (clean.softmax(1) * (clean.log_softmax(1) - attacked.log_softmax(1))).sum(1).mean()
    loss = F.cross_entropy(clean, labels) + 6 * apart
    first_sgd(student, grads(loss, student), rate=1e-5, nesterov=True)  # after the milestone
    found = fit.step()
    assert found["loss_generator"] == pytest.approx(of_generator.item(), rel=1e-5)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    same(fit.student, student)


def test_a_step_of_dfard(teacher):
    fit = begun("dfard", teacher)
    student, network, draw = by_hand(fit)
    labels = torch.from_numpy(draw.integers(3, size=9))
    images = network(normal(draw, 9, 5), labels)
    statistics = SquaredStatistics(teacher.network)
    with statistics.recording():
        answers = teacher(images)
    terms = (
        F.cross_entropy(answers, labels),
        statistics.loss(),
        -F.kl_div(student.eval()(images).log_softmax(1), answers.softmax(1), reduction="batchmean"),
    )
    weights = (
        1.0,
        terms[0].item() / terms[1].item(),
        min(100.0, -terms[0].item() / terms[2].item()),
    )
    of_generator = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    first_adam(network, grads(of_generator, network), rate=2e-4)
    adversarial = INNER(student, images.detach(), generator=draw)
    attacked = student.train()(adversarial)
    loss = 16 * F.kl_div(
        (attacked / 4).log_softmax(1), (answers.detach() / 4).softmax(1), reduction="batchmean"
    )
    first_sgd(student, grads(loss, student), rate=1e-3, nesterov=True)
    found = fit.step()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert found["loss_class"] == pytest.approx(terms[0].item(), rel=1e-5)
    same(fit.student, student)


def test_the_temperature_of_dfard_changes_after_an_epoch(teacher):
    fit = begun("dfard", teacher, epochs=3)
    steps = [fit.step() for _ in range(6)]
    means = [steps[i]["loss"] + steps[i + 1]["loss"] for i in (0, 2)]
    assert [step["temperature"] for step in steps[:4]] == [4.0] * 4
    assert steps[4]["temperature"] == pytest.approx(4 * (1 + 0.05 * np.sign(means[1] - means[0])))


def test_the_learning_rates_fall_where_they_are_said_to(teacher):
    fit = begun("dfme", teacher, drops=(0.25, 0.5))
    assert [fit._rate_factor(step) for step in range(4)] == pytest.approx([1, 0.3, 0.09, 0.09])
    fit = begun("ait", teacher)
    assert [fit._rate_factor(step) for step in range(4)] == pytest.approx([1, 1, 0.1, 0.1])
