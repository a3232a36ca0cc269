"""The ways of the training that an engine trial compares, on a small student."""

import copy

import pytest
import torch
from test_accelerated import trainer_of
from torch import nn

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import Rung, expected_of, run_trial
from dfshield.engine.trial_checks import check_answers, check_end, check_repeats
from dfshield.training import InnerMaximization
from dfshield.training.trial import TrialImages, training_ways

SIZE, STEPS = 16, 4
LINF = InnerMaximization(eps=0.1)


class Halved(InnerMaximization):
    """Does half of the steps that it is asked for."""

    def perturb_batches(self, *args, **kwargs):
        whole, self.num_steps = self.num_steps, self.num_steps // 2
        try:
            return super().perturb_batches(*args, **kwargs)
        finally:
            self.num_steps = whole


@pytest.fixture(scope="module")
def surrogate():
    """A teacher of 1x8x8 images in four classes, images for two mini-batches, and its logits."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        teacher = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 4),
        )
        teacher[-1].weight.data *= 20  # as sure of its classes as a trained one
    images = torch.rand(2 * SIZE, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return teacher, images, teacher.eval()(images)


@pytest.fixture
def make(surrogate):
    """A function that returns a trainer of two mini-batches an update, that does not end."""
    teacher, images, logits = surrogate

    def make(acceleration, **changes):
        arguments = {"epochs": 1000, "batch_size": SIZE, "num_batches": 2, "inner": LINF}
        return trainer_of(
            copy.deepcopy(teacher),
            images,
            labels=logits.argmax(dim=1),
            teacher_logits=logits,
            acceleration=acceleration,
            **arguments | changes,
        )

    return make


@pytest.fixture
def batch(surrogate):
    _, images, logits = surrogate
    return TrialImages(images[:SIZE], logits[:SIZE].argmax(dim=1), logits[:SIZE], SIZE)


@pytest.fixture
def ways(make, batch):
    return training_ways(make, batch)


def expected(ways):
    ways.plain.begin()
    return expected_of(ways, STEPS)


def problems(way, kind, wanted):
    way.begin()
    checks = (check_answers, check_repeats, check_end)
    return [problem for check in checks for problem in check(way, kind, wanted)]


def test_float64_gives_the_gradient_of_the_plain_way_and_more_digits(ways):
    wanted = expected(ways)
    for plain, exact in zip(wanted.answers, wanted.exact, strict=True):
        assert exact.gradient.dtype == torch.float64
        torch.testing.assert_close(plain.gradient.double(), exact.gradient, rtol=1e-3, atol=1e-6)
        assert not torch.equal(plain.gradient.double(), exact.gradient)
        torch.testing.assert_close(plain.terms.double(), exact.terms, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_which_a_training_steps_along(surrogate, batch):
    """With one mini-batch an update, no momentum and a rate of 1, a step is the gradient."""
    teacher = surrogate[0]

    def make(acceleration):
        student = copy.deepcopy(teacher)
        return trainer_of(
            student,
            batch.images,
            labels=batch.labels,
            teacher_logits=batch.teacher_logits,
            epochs=3,
            batch_size=SIZE,
            num_batches=1,
            optimizer=torch.optim.SGD(student.parameters(), lr=1.0),
            acceleration=acceleration,
            inner=InnerMaximization(eps=1e-9, norm="l2", num_steps=1),  # draws do not matter
        )

    way = training_ways(make, batch).plain
    way.begin()
    gradient, updated = way.answer(None).gradient, way.run(None, 1).state["student"]
    weights = dict(teacher.named_parameters())
    stepped = torch.cat([(w.detach() - updated[name]).flatten() for name, w in weights.items()])
    torch.testing.assert_close(stepped, gradient, rtol=1e-3, atol=1e-4)


def test_the_same_training_passes_every_check(ways):
    way = ways.faster(Acceleration())
    assert problems(way, "same", expected(ways)) == []
    assert way.peak_bytes() is None


def test_products_in_bfloat16_pass_as_rounded(make, batch):
    # The slope of the KL divergence is zero where an attack on it starts. In an untrained network
    # rounding drowns what there is of it close by.
    inner = InnerMaximization(eps=0.1, loss="ce")
    ways = training_ways(lambda a: make(a, inner=inner), batch)
    assert problems(ways.faster(Acceleration("bfloat16")), "rounded", expected(ways)) == []


def test_products_in_bfloat16_do_not_pass_for_float32(ways):
    found = problems(ways.faster(Acceleration("bfloat16")), "float32", expected(ways))
    assert any("times the plain way's" in problem for problem in found)


def test_weaker_attacks_are_found(make, ways, batch):
    wanted = expected(ways)
    weak = training_ways(lambda a: make(a, inner=Halved(eps=0.1)), batch)
    found = problems(weak.faster(Acceleration()), "rounded", wanted)
    assert any("its attacks are weaker" in problem for problem in found)


def test_a_run_in_two_pieces_is_the_run_in_one_and_leaves_its_states_alone(ways):
    ways.plain.begin()
    whole = ways.plain.run(None, STEPS)
    first = ways.plain.run(None, 1).state
    kept = {name: value.clone() for name, value in first["student"].items()}
    assert all(map(torch.equal, ways.plain.run(first, STEPS - 1).tensors, whole.tensors))
    assert all(torch.equal(first["student"][name], value) for name, value in kept.items())


def test_the_plain_way_is_no_faster_than_itself(ways):
    rung = Rung("again", {}, "same", lambda: ways.faster(Acceleration()))
    (report,) = run_trial(ways, [rung], iterations=1e9, most_steps=4, long=0.0).rungs
    assert report.verdict == "failed"
    assert "times as fast" in report.reason
