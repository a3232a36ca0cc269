"""The inner maximisation against float64 loops, and what it leaves untouched."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.attacks import random_start
from dfshield.errors import InputError
from dfshield.training import OBJECTIVES, InnerMaximization

EPS = {"linf": 0.1, "l2": 0.8}
NORMS = ["linf", "l2"]
LABELS = torch.arange(50) % 4
TEACHER_LOGITS = torch.randn(50, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def rng(seed=0):
    return np.random.default_rng(seed)


def mean_kl(student, x, x_adv):
    p, q = F.log_softmax(student(x), dim=1), F.log_softmax(student(x_adv), dim=1)
    return (p.exp() * (p - q)).sum() / len(x)


def start(images, kind="gaussian", *, eps=0.0, norm="linf"):
    """Where the ascent begins; the generator's first numbers."""
    if kind == "uniform" and norm == "l2":
        return random_start(images, eps=eps, norm=norm, generator=rng())
    if kind == "uniform":
        noise = rng().uniform(-eps, eps, size=tuple(images.shape))
        return (images + torch.from_numpy(noise)).clamp(0, 1)
    noise = rng().standard_normal(tuple(images.shape), dtype=np.float32)
    return images + 0.001 * torch.from_numpy(noise)


def ascended(loss, student, x, x_adv):
    """What is ascended, by name, from its definition."""
    p_adv = F.softmax(student(x_adv), dim=1)
    if loss == "ce":
        return -p_adv[range(len(x)), LABELS[: len(x)]].log().mean()
    target = student(x) if loss == "kl" else TEACHER_LOGITS[: len(x)]
    p = F.softmax(target, dim=1)
    return (p * (p / p_adv).log()).sum() / len(x)


def loop(student, images, *, norm, eps, steps, loss="kl", begin="gaussian"):
    """Section "inner maximisation" of the method, image by image and in the type of `images`."""
    adversarial = start(images, begin, eps=eps, norm=norm)
    size = eps / 4 if norm == "linf" else 2 * eps / steps
    for _ in range(steps):
        point = adversarial.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ascended(loss, student, images, point), [point])
        for i in range(len(images)):
            x, g = images[i], gradient[i]
            if norm == "linf":
                moved = adversarial[i] + size * g.sign()
                adversarial[i] = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
            else:
                delta = adversarial[i] - x + size * g / g.square().sum().sqrt()
                delta = (x + delta).clamp(0, 1) - x
                length = delta.square().sum().sqrt()
                adversarial[i] = x + (delta if length <= eps else delta * eps / length)
    return adversarial


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("loss", "begin"), sorted({(o.inner_loss, o.inner_start) for o in OBJECTIVES.values()})
)
def test_equals_a_loop_written_from_the_method(make_student, images, norm, loss, begin):
    student = make_student().double().train()  # it is attacked in eval mode all the same
    x = images[:12].double()
    inner = InnerMaximization(eps=EPS[norm], norm=norm, num_steps=7, loss=loss, start=begin)
    given = {"teacher_logits": TEACHER_LOGITS[:12], "labels": LABELS[:12]}
    got = inner(student, x, generator=rng(), **given)
    evaluating = student.eval()
    expected = loop(evaluating, x, norm=norm, eps=EPS[norm], steps=7, loss=loss, begin=begin)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_stays_in_the_ball_and_the_range_and_raises_the_divergence(make_student, images, norm):
    student = make_student().eval()
    adversarial = InnerMaximization(eps=EPS[norm], norm=norm)(student, images, generator=rng())
    order = float("inf") if norm == "linf" else 2
    sizes = torch.linalg.vector_norm((adversarial - images).flatten(1), ord=order, dim=1)
    assert sizes.max() <= EPS[norm] + 1e-6
    assert sizes.min() > 0.5 * EPS[norm]
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert not adversarial.requires_grad
    with torch.no_grad():
        before = mean_kl(student, images, start(images).clamp(0, 1))
        after = mean_kl(student, images, adversarial)
    assert after > 100 * before
    assert after > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_find_more(make_student, images, norm):
    student = make_student().eval()
    one, ten = (
        InnerMaximization(eps=EPS[norm], norm=norm, num_steps=n, step_size=0.3 * EPS[norm])(
            student, images, generator=rng()
        )
        for n in (1, 10)
    )
    with torch.no_grad():
        assert mean_kl(student, images, ten) > mean_kl(student, images, one)


@pytest.mark.parametrize("norm", NORMS)
def test_the_student_is_left_as_it_was(make_student, images, norm):
    student = make_student().train()
    student[4].eval()  # a layer that its owner keeps in eval mode
    student[0].weight.requires_grad_(False)
    before = deepcopy(student.state_dict())
    modes = [module.training for module in student.modules()]
    InnerMaximization(eps=EPS[norm], norm=norm)(student, images, generator=rng())
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in student.modules()] == modes
    assert all(parameter.grad is None for parameter in student.parameters())
    assert [p.requires_grad for p in student.parameters()] == [False] + [True] * 7


def test_the_student_runs_in_eval_mode(make_student, images):
    inner = InnerMaximization(eps=0.1)
    training, evaluating = make_student().train(), make_student().eval()
    assert torch.equal(
        inner(training, images, generator=rng()), inner(evaluating, images, generator=rng())
    )


@pytest.mark.parametrize("norm", NORMS)
def test_images_without_gradient_survive(make_student, images, norm):
    student = make_student().eval()
    student[7].weight.data.zero_()  # constant logits
    inner = InnerMaximization(eps=EPS[norm], norm=norm)
    adversarial = inner(student, images, generator=rng())
    assert torch.isfinite(adversarial).all()
    sizes = torch.linalg.vector_norm((adversarial - images).flatten(1), dim=1)
    # l_2 wanders in random directions; the sign of nothing is nothing, so l_inf stays at its start.
    assert (sizes.min() > 0.1) if norm == "l2" else (sizes.max() < 0.05)


def test_an_image_without_gradient_does_not_disturb_the_others(images):
    class Gate(nn.Module):
        """Logits that are constant for dark images."""

        def forward(self, x):
            return x.flatten(1)[:, :4] * (x.amax(dim=(1, 2, 3), keepdim=True) > 0.5).view(-1, 1)

    dark = images.clone()
    dark[3] = 0.1
    inner = InnerMaximization(eps=0.05, norm="l2", num_steps=1)
    mixed = inner(Gate(), dark, generator=rng())
    alone = inner(Gate(), images, generator=rng())
    others = [i for i in range(len(images)) if i != 3]
    assert torch.isfinite(mixed).all()
    torch.testing.assert_close(mixed[others], alone[others])
    assert (mixed[3] - dark[3]).norm() > 0.01


def test_default_steps_are_those_of_the_method():
    assert InnerMaximization(eps="8/255").eps == pytest.approx(8 / 255)
    assert InnerMaximization(eps="8/255").step_size == pytest.approx(2 / 255)
    assert InnerMaximization(eps="8/255").num_steps == 10
    l2 = InnerMaximization(eps="128/255", norm="l2", num_steps=16)
    assert l2.step_size == pytest.approx(2 * (128 / 255) / 16)
    assert InnerMaximization(
        eps="128/255", norm="l2", step_size="15/255"
    ).step_size == pytest.approx(15 / 255)


def test_only_its_generator_decides(make_student, images):
    student, inner = make_student().eval(), InnerMaximization(eps=0.8, norm="l2", num_steps=2)
    first = inner(student, images, generator=rng(1))
    assert torch.equal(inner(student, images, generator=rng(1)), first)
    assert not torch.equal(inner(student, images, generator=rng(2)), first)


@pytest.mark.parametrize(
    ("key", "value"), [("eps", 8), ("eps", "eight"), ("num_steps", 0), ("step_size", -0.1)]
)
def test_a_size_that_makes_no_sense_is_refused_by_name(key, value):
    with pytest.raises(InputError, match=key):
        InnerMaximization(**({"eps": 0.1} | {key: value}))


def test_a_student_without_gradient_is_refused():
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)

    with pytest.raises(InputError, match="no gradient with respect to the images"):
        InnerMaximization(eps=0.1)(Detached(), torch.rand(2, 1, 4, 4), generator=rng())


def test_attack_steps_grow_by_equal_shares_and_always_reach_as_far():
    inner = InnerMaximization(eps=0.1, num_steps=5, first_steps=3, step_size=0.02)
    grown = [inner.at(update, 7) for update in range(7)]
    assert [now.num_steps for now in grown] == [3, 3, 3, 4, 4, 5, 5]
    assert [now.num_steps * now.step_size for now in grown] == pytest.approx(7 * [0.1])
    assert grown[-1].step_size == inner.step_size
    assert inner.num_steps == 5
    constant = InnerMaximization(eps=0.1)
    assert constant.at(3, 7) is constant
    with pytest.raises(InputError, match=r"^first_steps: 11 are more than num_steps, 10"):
        InnerMaximization(eps=0.1, first_steps=11)
