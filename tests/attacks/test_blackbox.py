"""GenAttack and Boundary through foolbox: what counts, what it costs, and without foolbox."""

import subprocess
import sys
import warnings

import pytest
import torch
from counting import Counting
from torch import nn

from dfshield.attacks import PGD, Boundary, GenAttack, make_attack, perturbation_norm
from dfshield.errors import DfshieldWarning


def right(model, x, y):
    with torch.no_grad():
        return model(x).argmax(1) == y


def test_genattack_breaks_images_and_counts_what_it_asks(trained_net, digits):
    x, y = digits[0][:30], digits[1][:30]
    model = Counting(trained_net)
    outcome = GenAttack(eps=0.2, num_steps=30, population=6).run(model, x, y)
    clean, robust = right(trained_net, x, y), right(trained_net, outcome.images, y)
    assert 0 < robust.sum() < clean.sum()
    assert (outcome.queries[~clean] == 1).all()
    assert (outcome.queries[robust] == 1 + 30 * 6).all()
    assert (outcome.queries[clean & ~robust] <= 30 * 6).all()
    # One more: the check of the base class, which asks about the first image.
    assert sum(model.asked) == outcome.queries.sum() + 1


def test_genattacks_perturbation_uses_the_whole_ball_of_bright_pixels():
    """An old copy of foolbox clipped image plus noise to [-eps, eps], which blackens images."""

    class Bright(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([total, 15.99 - 0 * total], 1)

    x, y = torch.ones(2, 1, 4, 4), torch.zeros(2, dtype=torch.long)
    x_adv = GenAttack(eps=0.1, num_steps=3)(Bright(), x, y)
    assert x_adv.min() >= 0.9 - 1e-6
    assert not right(Bright(), x_adv, y).any()


def test_genattack_stands_large_logits(trained_net, digits):
    """Their exponentials overflow: foolbox's own fitness would be NaN."""

    class Loud(nn.Module):
        def forward(self, x):
            return 300 + 30 * trained_net(x)

    x, y = digits[0][:20], digits[1][:20]
    options = {"eps": 0.3, "num_steps": 20}
    quiet = right(trained_net, GenAttack(**options)(trained_net, x, y), y)
    loud = right(trained_net, GenAttack(**options)(Loud(), x, y), y)
    assert loud.sum() <= quiet.sum() + 3
    assert loud.sum() < right(trained_net, x, y).sum()


def test_genattacks_target_may_be_random(trained_net, digits):
    x, y = digits[0][:20], digits[1][:20]
    options = {"eps": 0.2, "num_steps": 10}
    runner_up = GenAttack(**options)(trained_net, x, y, seed=1)
    random = GenAttack(target="random", **options)(trained_net, x, y, seed=1)
    assert not torch.equal(runner_up, random)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 1.0)])
def test_boundary_succeeds_within_the_bound_alone(trained_net, digits, norm, eps):
    x, y = digits[0][:30], digits[1][:30]
    model = Counting(trained_net)
    outcome = Boundary(eps=eps, norm=norm, num_steps=400).run(model, x, y)
    clean, robust = right(trained_net, x, y), right(trained_net, outcome.images, y)
    size = perturbation_norm(outcome.images - x, norm)
    assert 0 < robust.sum() < clean.sum()
    assert size.max() <= eps
    assert (size[robust] == 0).all()
    assert outcome.queries[clean & ~robust].min() < outcome.queries[robust].min()
    assert (outcome.queries[robust] > 400).all()
    # One more: the check of the base class, which asks about the first image.
    assert sum(model.asked) == outcome.queries.sum() + 1


def test_a_longer_walk_is_stronger(trained_net, digits):
    x, y = digits[0][:30], digits[1][:30]
    left = [
        right(trained_net, Boundary(eps=0.25, num_steps=steps)(trained_net, x, y), y).sum()
        for steps in (10, 800)
    ]
    assert left[1] < left[0]


def test_black_box_is_no_stronger_than_white_box(hardened_net, digits):
    x, y = digits[0][:40], digits[1][:40]
    white = right(hardened_net, PGD(eps=0.15, restarts=3)(hardened_net, x, y), y).sum()
    for attack in (GenAttack(eps=0.15, num_steps=50), Boundary(eps=0.15, num_steps=300)):
        assert right(hardened_net, attack(hardened_net, x, y), y).sum() >= white


class Spot(nn.Module):
    """Class 1 where the first pixel is brighter than the others by a lot, which noise never is."""

    def forward(self, x):
        flat = x.flatten(1)
        score = flat[:, :1] - flat[:, 1:].amax(1, keepdim=True) - 0.5
        return torch.cat([0 * score, score], 1)


def test_boundary_starts_at_another_image_where_noise_is_of_no_use():
    x = torch.full((3, 1, 5, 5), 0.4)
    x[2, 0, 0, 0] = 1.0
    x[:, 0, 1:] = 0.2
    x[2] = x[2] * 0
    x[2, 0, 0, 0] = 1.0
    y = torch.tensor([0, 0, 1])
    assert right(Spot(), x, y).all()
    x_adv = Boundary(eps=1, num_steps=50)(Spot(), x, y)
    assert not right(Spot(), x_adv[:2], y[:2]).any()


def test_boundary_says_where_it_cannot_start():
    x, y = torch.full((3, 1, 5, 5), 0.4), torch.zeros(3, dtype=torch.long)
    with pytest.warns(DfshieldWarning, match="for 3 images"):
        outcome = Boundary(eps=1, num_steps=5).run(Spot(), x, y)
    assert torch.equal(outcome.images, x)
    assert (outcome.queries > 1000).all()


def test_a_model_that_answers_at_random_ends_in_no_error(digits):
    class Coin(nn.Module):
        def forward(self, x):
            return torch.randn(len(x), 10)

    x, y = digits[0][:10], digits[1][:10]
    for name in ("genattack", "boundary"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DfshieldWarning)
            make_attack(name, eps=0.1, num_steps=20)(Coin(), x, y)


WITHOUT_FOOLBOX = """
import sys

class Missing:
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import torch
from dfshield.attacks import make_attack
from dfshield.errors import InputError

model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
for name in ("genattack", "boundary"):
    attack = make_attack(name, eps=0.1)
    try:
        attack(model, torch.rand(4, 1, 8, 8), torch.arange(4))
    except InputError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("missing", "said"), [("foolbox", "which is missing"), ("eagerpy", "No module named 'eagerpy'")]
)
def test_without_foolbox_the_extra_is_named(missing, said):
    program = [sys.executable, "-c", WITHOUT_FOOLBOX, missing]
    done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line, label in zip(lines, ("GenAttack", "Boundary"), strict=True):
        assert line.startswith(f"{label} needs foolbox")
        assert said in line
        assert "pip install 'dfshield[blackbox]'" in line


IMPORTS = """
import sys
import torch
from dfshield.attacks import make_attack

assert "foolbox" not in sys.modules
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
make_attack("genattack", eps=0.1, num_steps=2)(model, torch.rand(4, 1, 8, 8), torch.arange(4))
make_attack("boundary", eps=0.1, num_steps=2)(model, torch.rand(4, 1, 8, 8), torch.arange(4))
assert "foolbox" in sys.modules
print(sorted({"torchvision", "jax", "tensorflow"} & set(sys.modules)))
"""


def test_foolbox_is_imported_when_used_and_brings_no_other_framework():
    program = [sys.executable, "-W", "ignore", "-c", IMPORTS]
    done = subprocess.run(program, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]"
