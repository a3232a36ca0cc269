"""FGSM and PGD against foolbox and against loops written out in float64."""

import copy

import foolbox
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.attacks import (
    FGSM,
    PGD,
    normalise_gradient,
    perturbation_norm,
    project,
    random_start,
)


def generator(seed=0):
    return np.random.default_rng(seed)


def predictions(model, x):
    with torch.no_grad():
        return model(x).argmax(1)


@pytest.mark.parametrize(("norm", "eps", "step"), [("linf", 0.06, 0.015), ("l2", 0.4, 0.1)])
def test_pgd_equals_foolbox_image_by_image(trained_net, digits, norm, eps, step):
    # In float64: l_2 steps blow up what a machine rounds where the gradient is tiny.
    trained_net, x, y = copy.deepcopy(trained_net).double(), digits[0].double(), digits[1]
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    wrapped = foolbox.PyTorchModel(trained_net, bounds=(0, 1), device="cpu")
    reference = theirs(random_start=False, abs_stepsize=step, steps=20)
    _, expected, success = reference(wrapped, x, y, epsilons=eps)
    x_adv = PGD(eps=eps, step_size=step, num_steps=20, random_start=False, norm=norm)(
        trained_net, x, y
    )
    right = predictions(trained_net, x) == y
    torch.testing.assert_close(x_adv[right], expected[right], atol=1e-9, rtol=0)
    assert torch.equal(x_adv[~right], x[~right])
    assert torch.equal((predictions(trained_net, x_adv) != y)[right], success[right])
    assert 0.05 < success.float().mean() < 0.95


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.5)])
def test_fgsm_equals_foolbox_image_by_image(trained_net, digits, norm, eps):
    x, y = digits
    theirs = {"linf": foolbox.attacks.FGSM, "l2": foolbox.attacks.FGM}[norm]
    wrapped = foolbox.PyTorchModel(trained_net, bounds=(0, 1), device="cpu")
    _, expected, success = theirs()(wrapped, x, y, epsilons=eps)
    x_adv = FGSM(eps=eps, norm=norm)(trained_net, x, y)
    right = predictions(trained_net, x) == y
    torch.testing.assert_close(x_adv[right], expected[right], atol=1e-6, rtol=0)
    assert torch.equal(x_adv[~right], x[~right])
    assert torch.equal((predictions(trained_net, x_adv) != y)[right], success[right])


def loop_in_float64(model, x, y, *, eps, step_size, num_steps, norm):
    """PGD without random start, one image at a time, in NumPy but for the gradient."""
    model = copy.deepcopy(model).double()
    results = []
    for image, label in zip(x.double().numpy(), y, strict=True):
        current = image.copy()
        for _ in range(num_steps):
            leaf = torch.from_numpy(current[None]).requires_grad_()
            F.cross_entropy(model(leaf), label[None]).backward()
            gradient = leaf.grad[0].numpy()
            if norm == "linf":
                moved = current + step_size * np.sign(gradient)
                current = np.minimum(np.maximum(moved, image - eps), image + eps)
            else:
                delta = current + step_size * gradient / np.sqrt((gradient**2).sum()) - image
                current = image + delta * min(1.0, eps / np.sqrt((delta**2).sum()))
            current = np.clip(current, 0, 1)
        results.append(current)
    return torch.from_numpy(np.stack(results))


@pytest.mark.parametrize(("norm", "eps", "step"), [("linf", 0.1, 0.03), ("l2", 0.8, 0.15)])
def test_pgd_equals_a_float64_loop(trained_net, digits, norm, eps, step):
    x, y = digits[0][:8], digits[1][:8]
    options = {"eps": eps, "step_size": step, "num_steps": 5, "norm": norm}
    # Without kinks, so that rounding stays rounding.
    smooth = nn.Sequential(
        *(nn.Softplus() if isinstance(layer, nn.ReLU) else layer for layer in trained_net)
    )
    expected = loop_in_float64(smooth, x, y, **options)
    exact = PGD(random_start=False, **options)(copy.deepcopy(smooth).double(), x.double(), y)
    torch.testing.assert_close(exact, expected, atol=1e-9, rtol=0)
    if norm == "linf":  # l_2 steps blow up what is rounded where the gradient is tiny
        rounded = PGD(random_start=False, **options)(smooth, x, y)
        torch.testing.assert_close(rounded.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.3)])
def test_mean_cross_entropy_under_attack_is_strictly_above_the_clean_one(
    trained_net, digits, norm, eps
):
    x, y = digits

    def loss(images):
        with torch.no_grad():
            return F.cross_entropy(trained_net(images), y).item()

    one_step = loss(FGSM(eps=eps, norm=norm)(trained_net, x, y))
    pgd = loss(PGD(eps=eps, norm=norm)(trained_net, x, y))
    assert loss(x) < one_step
    assert loss(x) < pgd


def test_step_defaults_to_a_quarter_of_eps():
    assert PGD(eps="8/255").step_size == pytest.approx(2 / 255)


def test_restarts_keep_the_worst_of_every_image(trained_net, digits):
    x, y = digits

    def outcome(x_adv):
        with torch.no_grad():
            logits = trained_net(x_adv)
        return logits.argmax(1) != y, F.cross_entropy(logits, y, reduction="none")

    options = {"eps": 0.08, "num_steps": 2, "step_size": 0.03}
    first = PGD(**options)(trained_net, x, y, seed=5)
    several = PGD(restarts=8, **options)(trained_net, x, y, seed=5)
    wrong, loss = outcome(first)
    wrong_now, loss_now = outcome(several)
    assert (wrong <= wrong_now).all()
    assert (loss_now >= loss)[wrong == wrong_now].all()
    assert not torch.equal(first, several)


def test_a_wrong_prediction_wins_over_a_larger_loss():
    class Step(nn.Module):
        """Right with a small loss, wrong with a smaller one: only far below the image."""

        def forward(self, x):
            value = x.flatten(1)
            wrong = (value < 0.45).float()
            rival = torch.where(wrong.bool(), torch.full_like(value, 0.02), -value * 0)
            third = torch.where(wrong.bool(), torch.full_like(value, -9.0), value * 0 - 0.01)
            return torch.cat([value * 0 + 0.01, rival, third], 1)

    x, y = torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    attack = PGD(eps=0.1, num_steps=1, step_size=1e-6, restarts=40)
    x_adv = attack(Step(), x, y)
    with torch.no_grad():
        right_loss = F.cross_entropy(Step()(x), y)
        assert F.cross_entropy(Step()(x_adv), y) < right_loss
        assert Step()(x_adv).argmax(1) == 1


def test_random_start_is_uniform_in_the_ball():
    x = torch.full((4000, 1, 1, 2), 0.5)
    for norm in ("linf", "l2"):
        start = random_start(x, eps=0.2, norm=norm, generator=generator())
        size = perturbation_norm(start - x, norm)
        assert size.max() <= 0.2 + 1e-6
        # In two dimensions a quarter of either ball lies within half the radius.
        assert (size < 0.1).float().mean() == pytest.approx(0.25, abs=0.03)
        assert (start - x).mean().abs() < 0.01


def test_random_start_stays_in_range():
    x = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    for norm in ("linf", "l2"):
        start = random_start(x, eps=0.3, norm=norm, generator=generator())
        assert start.min() >= 0
        assert start.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection(norm):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(200, 1, 4, 4, generator=draw)
    far = x + torch.randn(x.shape, generator=draw)
    near = (x + 0.001 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
    projected = project(far, x, eps=0.3, norm=norm)
    assert projected.min() >= 0
    assert projected.max() <= 1
    assert perturbation_norm(projected - x, norm).max() <= 0.3 + 1e-6
    torch.testing.assert_close(project(near, x, eps=0.3, norm=norm), near)
    torch.testing.assert_close(project(projected, x, eps=0.3, norm=norm), projected)


def test_l2_projection_clips_before_it_scales():
    x = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    far = torch.tensor([3.0, 0.9]).view(1, 1, 1, 2)
    # The first pixel cannot move up, so that the whole radius is left for the second.
    expected = torch.tensor([1.0, 0.8]).view(1, 1, 1, 2)
    torch.testing.assert_close(project(far, x, eps=0.3, norm="l2"), expected)


def test_normalised_gradient():
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0], [3e-30, -4e-30]]).view(3, 1, 1, 2)
    sign = normalise_gradient(gradient, "linf", generator())
    assert sign.flatten(1).tolist() == [[1, -1], [0, 0], [1, -1]]
    unit = normalise_gradient(gradient, "l2", generator()).flatten(1)
    torch.testing.assert_close(unit[0], torch.tensor([0.6, -0.8]))
    torch.testing.assert_close(unit[2], torch.tensor([0.6, -0.8]))
    assert unit[1].norm().item() == pytest.approx(1)
    assert not torch.equal(unit[1], normalise_gradient(gradient, "l2", generator(1))[1].flatten())
    assert torch.equal(gradient[1], torch.zeros(1, 1, 2))
