"""GradRefine against equations 9 and 10 written out, and against plain optimizers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.errors import DfshieldError, InputError
from dfshield.training import GradRefine


def equations_9_and_10(gradients, tau):
    """Return g* and the share of scalars with |A| >= tau; `tau` is a decimal in a string."""
    gradients = np.asarray(gradients, dtype=np.float64)
    num_batches, size = gradients.shape
    refined, passed = np.zeros(size), 0
    for k in range(size):
        agreement = Fraction(int(np.sign(gradients[:, k]).sum()), num_batches)
        phi = abs(agreement) >= Fraction(tau)
        passed += phi
        for g in gradients[:, k]:
            if phi and float(agreement) * g > 0:
                refined[k] += g
    return refined, passed / size


def random_gradients(num_batches, size, seed=0):
    """Gradients of differing sizes, some parameters biased to one sign, a fifth of them zero."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-6, 2, size)
    gradients = scale * (rng.standard_normal((num_batches, size)) + rng.normal(size=size))
    gradients[rng.random(gradients.shape) < 0.2] = 0.0
    return gradients.astype(np.float32)


def refine(gradients, tau):
    """Return g* as one step of gradient descent with rate 1 from zero applies it, and the rate."""
    parameter = nn.Parameter(torch.zeros(gradients.shape[1]))
    refiner = GradRefine(torch.optim.SGD([parameter], lr=1.0), tau=tau)
    return accumulate_and_step(refiner, parameter, gradients)


def accumulate_and_step(refiner, parameter, gradients):
    before = parameter.detach().clone()
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        refiner.accumulate()
        assert parameter.grad is None
    rate = refiner.step()
    return (before - parameter.detach()).numpy(), rate


BOUNDARIES = [
    (1, "0.5"),
    (2, "0.5"),
    (3, "0"),
    (4, "0"),
    (5, "1"),
    (5, "0.6"),
    (8, "0.25"),
    (10, "0.7"),
    (20, "0.5"),
    (30, "0.1"),
    (40, "0.05"),
    (100, "0.29"),
    (100, "0.55"),
    (100, "0.07"),
]


@pytest.mark.parametrize(("num_batches", "tau"), BOUNDARIES)
def test_equals_the_equations_in_float64(num_batches, tau):
    gradients = random_gradients(num_batches, 300)
    expected, expected_rate = equations_9_and_10(gradients, tau)
    refined, rate = refine(gradients, float(tau))
    np.testing.assert_allclose(refined, expected, rtol=1e-6, atol=0)
    assert rate == pytest.approx(expected_rate, abs=1e-12)


@pytest.mark.parametrize(("num_batches", "tau"), BOUNDARIES)
def test_the_threshold_is_exact_where_tau_times_k_is_a_whole_number(num_batches, tau):
    # Column j: j positive gradients, the others zero, so |A| = j / K takes every value there is.
    counts = np.arange(num_batches + 1)
    gradients = (np.arange(num_batches)[:, None] < counts).astype(np.float32)
    passes = [Fraction(int(j), num_batches) >= Fraction(tau) for j in counts]
    for sign in (1, -1):
        refined, rate = refine(sign * gradients, float(tau))
        np.testing.assert_array_equal(refined, sign * np.where(passes, counts, 0))
        assert rate == pytest.approx(np.mean(passes))


def loss_of(network, seed):
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(12, 1, 6, 6, generator=rng)
    y = torch.randint(4, (12,), generator=rng)
    return F.cross_entropy(network(x), y)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
    ],
    ids=["sgd", "adam"],
)
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_one_mini_batch_is_plain_training_bit_for_bit(make_student, make_optimizer, tau):
    plain, refined = make_student(), make_student()
    plain_optimizer = make_optimizer(plain.parameters())
    optimizer = make_optimizer(refined.parameters())
    refiner = GradRefine(optimizer, tau=tau)
    for step in range(6):
        plain_optimizer.zero_grad()
        loss_of(plain, step).backward()
        plain_optimizer.step()
        loss_of(refined, step).backward()
        refiner.accumulate()
        refiner.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(refined.state_dict()[name], value), name
    expected, state = plain_optimizer.state_dict()["state"], optimizer.state_dict()["state"]
    for index, values in expected.items():
        for name, value in values.items():
            assert torch.equal(state[index][name], value), name


@pytest.mark.parametrize("num_batches", [2, 5, 20])
def test_identical_gradients_add_up(num_batches):
    gradient = random_gradients(1, 200)
    refined, rate = refine(np.repeat(gradient, num_batches, axis=0), tau=1.0)
    expected = (num_batches * gradient[0].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(refined, expected)
    assert rate == np.mean(gradient[0] != 0)


@pytest.mark.parametrize("tau", [0.0, 1e-9, 0.5, 1.0])
def test_opposite_gradients_cancel_even_when_one_is_larger(tau):
    gradient = np.abs(random_gradients(1, 50)) + 1e-3
    refined, rate = refine(np.concatenate([gradient, -7 * gradient]), tau=tau)
    np.testing.assert_array_equal(refined, 0)
    assert rate == (1.0 if tau == 0 else 0.0)


def test_tau_zero_still_drops_the_minority():
    refined, rate = refine(np.array([[1.0], [2.0], [-100.0]], dtype=np.float32), tau=0.0)
    assert refined.tolist() == [3.0]
    assert rate == 1.0


def test_the_agreement_rate_is_a_share_of_scalars_not_of_tensors():
    large, small = nn.Parameter(torch.zeros(3, 5)), nn.Parameter(torch.zeros(1))
    refiner = GradRefine(torch.optim.SGD([large, small], lr=1.0), tau=1.0)
    for sign in (1.0, -1.0):
        large.grad, small.grad = torch.full((3, 5), sign), torch.ones(1)
        large.grad[0, :2] = -3.0
        refiner.accumulate()
    assert refiner.step() == pytest.approx(3 / 16)
    assert large.detach().tolist() == [[6.0, 6.0, 0.0, 0.0, 0.0], [0.0] * 5, [0.0] * 5]
    assert small.item() == -2.0


def test_a_short_last_group_has_its_own_threshold_and_groups_do_not_mix():
    parameter = nn.Parameter(torch.zeros(300))
    refiner = GradRefine(torch.optim.SGD([parameter], lr=1.0), tau=0.5)
    for size, seed in ((20, 1), (20, 2), (3, 3), (1, 4)):
        gradients = random_gradients(size, 300, seed) / 1000
        expected, expected_rate = equations_9_and_10(gradients, "0.5")
        refined, rate = accumulate_and_step(refiner, parameter, gradients)
        # The step is read off as a difference of weights, which rounds at their size.
        np.testing.assert_allclose(refined, expected, rtol=1e-5, atol=1e-6)
        assert rate == pytest.approx(expected_rate)


@pytest.mark.parametrize(
    "values", [[float("nan"), 1.0], [float("inf"), 1.0], [1.0, float("-inf")], [np.inf, -np.inf]]
)
def test_a_gradient_that_is_not_finite_leaves_weights_and_momentum_alone(values):
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.1)
    refiner = GradRefine(optimizer, tau=0.5)
    accumulate_and_step(refiner, parameter, np.ones((2, 3), dtype=np.float32))
    weights = parameter.detach().clone()
    momentum = optimizer.state[parameter]["momentum_buffer"].clone()
    for value in values:
        parameter.grad = torch.tensor([1.0, value, -1.0])
        refiner.accumulate()
    with pytest.raises(DfshieldError, match="diverged"):
        refiner.step()
    assert torch.equal(parameter.detach(), weights)
    assert torch.equal(optimizer.state[parameter]["momentum_buffer"], momentum)


def test_a_parameter_without_gradient_is_left_alone_as_the_optimizer_does():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.5)
    refiner = GradRefine(optimizer, tau=0.5)
    used.grad = torch.ones(2)
    refiner.accumulate()
    refiner.step()
    assert used.detach().tolist() == pytest.approx([0.85, 0.85])
    assert unused.detach().tolist() == [1.0, 1.0, 1.0]
    assert unused not in optimizer.state


def test_a_gradient_missing_in_one_mini_batch_counts_as_zero():
    often, always = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    refiner = GradRefine(torch.optim.SGD([often, always], lr=1.0), tau=0.75)
    for batch in range(4):
        always.grad = torch.ones(1)
        often.grad = torch.ones(1) if batch else None
        refiner.accumulate()
    assert refiner.step() == 1.0  # 3 of 4 is 0.75
    assert (often.item(), always.item()) == (-3.0, -4.0)


def test_learning_rates_of_parameter_groups_are_kept():
    slow, fast = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([{"params": [slow], "lr": 0.1}, {"params": [fast], "lr": 10.0}])
    refiner = GradRefine(optimizer, tau=1.0)
    for _ in range(2):
        slow.grad, fast.grad = torch.ones(2, 2), torch.ones(3)
        refiner.accumulate()
    refiner.step()
    torch.testing.assert_close(slow.detach(), torch.full((2, 2), -0.2))
    torch.testing.assert_close(fast.detach(), torch.full((3,), -20.0))


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_a_tau_outside_the_unit_interval_is_refused(tau):
    with pytest.raises(InputError, match="tau"):
        GradRefine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), tau=tau)


def test_a_step_without_a_mini_batch_is_refused():
    refiner = GradRefine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    with pytest.raises(InputError, match="accumulate"):
        refiner.step()
