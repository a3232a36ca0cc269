"""What PGD may ascend, and its variants: on terms of the training objective, and without bound."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from counting import Counting
from torch import nn

from dfshield.attacks import PGD, ObjectivePGD, Transfer, UnboundedPGD, make_attack
from dfshield.attacks.losses import cross_entropy, dlr, margin
from dfshield.divergence import kl_divergence
from dfshield.errors import DfshieldWarning, InputError

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.0, 5.0, 4.0, -2.0]])
LABELS = torch.tensor([0, 1])


def test_losses_by_hand():
    torch.testing.assert_close(margin(LOGITS, LABELS), torch.tensor([1.0, -1.0]))
    # Largest less third largest logit: 3 - 0.5 and 5 - 0.
    torch.testing.assert_close(dlr(LOGITS, LABELS), torch.tensor([1 / 2.5, -1 / 5]))
    torch.testing.assert_close(
        cross_entropy(LOGITS, LABELS), -LOGITS.softmax(1)[[0, 1], LABELS].log()
    )
    p, q = LOGITS.softmax(1), LOGITS.flip(1).softmax(1)
    found = kl_divergence(LOGITS, LOGITS.flip(1), reduction="none")
    torch.testing.assert_close(found, (p * (p / q).log()).sum(1))


def test_dlr_does_not_change_with_the_scale_of_the_logits():
    torch.testing.assert_close(dlr(1000 * LOGITS, LABELS), dlr(LOGITS, LABELS))


def standing(model, x, y, attack, seed=0):
    with torch.no_grad():
        return model(attack(model, x, y, seed=seed)).argmax(1) == y


@pytest.mark.parametrize("loss", ["ce", "cw", "dlr", "kl"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.7)])
def test_every_loss_raises_itself_and_breaks_images(hardened_net, digits, loss, norm, eps):
    x, y = digits

    def value(images):
        with torch.no_grad():
            logits, clean = hardened_net(images), hardened_net(x)
        if loss == "kl":
            return kl_divergence(clean, logits, reduction="none")
        return {"ce": cross_entropy, "cw": margin, "dlr": dlr}[loss](logits, y)

    attack = PGD(eps=eps, norm=norm, num_steps=10, loss=loss)
    one_step = PGD(eps=eps, norm=norm, num_steps=1, loss=loss)
    start, ten = value(one_step(hardened_net, x, y)), value(attack(hardened_net, x, y))
    assert ten.mean() > start.mean()
    assert (ten >= value(x) - 1e-6).float().mean() > 0.95
    clean = (hardened_net(x).argmax(1) == y).float().mean()
    assert standing(hardened_net, x, y, attack).float().mean() < clean - 0.05


def test_losses_agree_on_a_hardened_model(hardened_net, digits):
    x, y = digits
    robust = [
        standing(hardened_net, x, y, PGD(eps=0.1, num_steps=20, loss=loss)).float().mean().item()
        for loss in ("ce", "cw", "dlr")
    ]
    assert max(robust) - min(robust) <= 0.05


def test_dlr_with_two_classes_is_the_margin_and_says_so(digits):
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), digits[0][:8]
    with torch.no_grad():
        y = model(x).argmax(1)
    with pytest.warns(DfshieldWarning, match="no DLR loss with 2 classes"):
        x_adv = PGD(eps=0.2, loss="dlr")(model, x, y)
    assert torch.equal(x_adv, PGD(eps=0.2, loss="cw")(model, x, y))


def test_broken_images_are_not_attacked_again(trained_net, digits):
    x, y = digits
    counting = Counting(trained_net)
    attack = PGD(eps=0.1, num_steps=4, restarts=3)
    attack(counting, x, y)
    clean = (trained_net(x).argmax(1) == y).sum().item()
    # One for the gradient check, all for the clean prediction, and then the restarts.
    head, runs = counting.asked[:2], np.array(counting.asked[2:]).reshape(3, 5)
    assert head == [1, len(x)]
    assert (runs == runs[:, :1]).all()
    assert runs[0, 0] == clean
    assert clean > runs[1, 0] > runs[2, 0] > 0
    once = PGD(eps=0.1, num_steps=4)
    assert runs[1, 0] == standing(trained_net, x, y, once).sum().item()


def test_unbounded_pgd_breaks_everything_and_stops_then(trained_net, hardened_net, digits):
    x, y = digits
    for net in (trained_net, hardened_net):
        counting = Counting(net)
        attack = UnboundedPGD()
        assert attack.eps == 1
        assert not standing(counting, x, y, attack).any()
        # It ends with the last image that stood, and those that fell took no part any more.
        steps = counting.asked[2:-1]
        assert len(steps) < 200
        assert steps == sorted(steps, reverse=True)


def test_unbounded_pgd_does_not_get_past_a_zero_gradient(digits):
    class Flat(nn.Module):
        def forward(self, x):
            return F.one_hot((x.flatten(1).mean(1) > 0.3).long(), 3).float() + 0 * x.sum()

    x = digits[0]
    y = Flat()(x).argmax(1)
    assert standing(Flat(), x, y, UnboundedPGD()).all()


def objective_by_hand(student, teacher, x, x_adv, terms, leading):
    def log(model, images):
        return model(images).log_softmax(1)

    def kl(p, q):
        return (p.exp() * (p - q)).sum(1)

    if terms == "a":
        pair = log(teacher, x_adv), log(student, x_adv)
        return kl(*pair) if leading == "teacher" else kl(*reversed(pair))
    loss = kl(log(teacher, x), log(student, x_adv))
    return loss if terms == "b" else loss + kl(log(student, x), log(student, x_adv))


@pytest.mark.parametrize(
    ("terms", "leading"), [("a", "teacher"), ("a", "student"), ("b", "teacher"), ("c", "teacher")]
)
def test_objective_pgd_equals_a_loop_written_out(trained_net, hardened_net, digits, terms, leading):
    student = hardened_net.double()
    teacher = trained_net.double()
    x, y = digits[0][:20].double(), digits[1][:20]
    try:
        attack = ObjectivePGD(
            teacher=teacher,
            eps=0.1,
            num_steps=4,
            terms=terms,
            leading=leading,
            random_start=terms == "c",
        )
        x_adv = attack(student, x, y, seed=2)
        expected = x.clone()
        if attack.random_start:
            draw = np.random.default_rng(np.random.SeedSequence(2))
            noise = draw.uniform(-0.1, 0.1, size=tuple(x.shape))
            expected = (x + torch.from_numpy(noise)).clamp(0, 1)
        for _ in range(4):
            expected.requires_grad_()
            losses = objective_by_hand(student, teacher, x, expected, terms, leading)
            (gradient,) = torch.autograd.grad(losses.sum(), [expected])
            moved = expected.detach() + 0.025 * gradient.sign()
            expected = torch.min(torch.max(moved, x - 0.1), x + 0.1).clamp(0, 1)
        right = student(x).argmax(1) == y
        torch.testing.assert_close(x_adv[right], expected[right], atol=1e-9, rtol=0)
    finally:
        hardened_net.float(), trained_net.float()
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_objective_pgd_is_weaker_than_pgd_on_the_cross_entropy(trained_net, hardened_net, digits):
    x, y = digits
    plain = standing(hardened_net, x, y, PGD(eps=0.1, num_steps=10)).float().mean()
    for terms in ("a", "b", "c"):
        attack = ObjectivePGD(teacher=trained_net, eps=0.1, terms=terms)
        assert standing(hardened_net, x, y, attack).float().mean() >= plain - 0.02


def test_a_teacher_of_other_classes_is_refused(trained_net, digits):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    attack = ObjectivePGD(teacher=teacher, eps=0.1)
    with pytest.raises(InputError, match="teacher: has 3 classes"):
        attack(trained_net, *digits)


def test_transfer_is_the_inner_attack_on_the_source(trained_net, hardened_net, digits):
    x, y = digits
    attack = Transfer(source=trained_net, eps=0.1, inner="pgd", num_steps=5)
    x_adv = attack(hardened_net, x, y, seed=4)
    right = hardened_net(x).argmax(1) == y
    # The source is attacked even where it is wrong by itself: nothing is spared there.
    inner = PGD(eps=0.1, num_steps=5)
    inner.spare_broken = False
    expected = inner(trained_net, x[right], y[right], seed=4)
    assert torch.equal(x_adv[right], expected)
    assert torch.equal(x_adv[~right], x[~right])
    lost = (trained_net(x).argmax(1) != y) & right
    assert lost.any()
    assert (x_adv[lost] != x[lost]).any(dim=(1, 2, 3)).all()
    white_box = standing(hardened_net, x, y, PGD(eps=0.1, num_steps=5)).float().mean()
    assert standing(hardened_net, x, y, attack).float().mean() >= white_box


def test_noise_is_weaker_than_pgd_and_stops_with_the_first_wrong_draw(trained_net, digits):
    x, y = digits
    noise = make_attack("noise", eps=0.25, samples=5)
    outcome = noise.run(trained_net, x, y)
    robust = trained_net(outcome.images).argmax(1) == y
    assert standing(trained_net, x, y, PGD(eps=0.25)).sum() < robust.sum() < len(x)
    clean_wrong = trained_net(x).argmax(1) != y
    assert (outcome.queries[clean_wrong] == 1).all()
    assert (outcome.queries[robust] == 6).all()
    assert outcome.queries[~robust & ~clean_wrong].min() < 6
