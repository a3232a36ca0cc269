"""The inversion engine: against a plain loop, on a real teacher, and what it leaves untouched."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream
from dfshield.synthesis import DSS, CoefficientSampler, Inversion, draw_batch, optimise

LEARNING_RATE = 0.1


def recorded(batch, kind):
    """The values of a batch's own columns whose names begin with ``kind``, in their order."""
    return [float(value) for name, value in batch.record.items() if name.startswith(kind)]


def draws_for(teacher, *, iterations, batch=4, **changes):
    arguments = {
        "seed": 0,
        "stream": RngStream.SYNTHESIS,
        "batch": batch,
        "size": 5,
        "image_shape": teacher.input_shape,
        "num_classes": teacher.num_classes,
        "labels": "random",
        "coefficients": CoefficientSampler(rule="paper"),
        "jitter": 2,
        "iterations": iterations,
    }
    return draw_batch(**(arguments | changes))


def plain_total(network, x, labels, coefficients):
    """Equation 6 on a plain sequence of layers."""
    differences = (
        x[..., 1:] - x[..., :-1],
        x[..., 1:, :] - x[..., :-1, :],
        x[..., 1:, 1:] - x[..., :-1, :-1],
        x[..., 1:, :-1] - x[..., :-1, 1:],
    )
    tv = sum(d.square().sum().sqrt() for d in differences)
    feature = 0.0
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            axes = (0,) if x.ndim == 2 else (0, 2, 3)
            mean = x.mean(axes)
            variance = (x * x).mean(axes) - mean * mean
            feature = feature + (mean - layer.running_mean).square().sum().sqrt()
            feature = feature + (variance - layer.running_var).square().sum().sqrt()
        x = layer(x)
    label_loss = -F.log_softmax(x, dim=1)[range(len(x)), labels].mean()
    a, b, c = coefficients
    return torch.stack([label_loss, feature, tv, a * label_loss + b * feature + c * tv])


def plain_iterates(network, draws, rates=None):
    """Adam written out, in float64: the start, every iterate, and the losses of every iteration."""
    network.double()
    rates = rates or [LEARNING_RATE] * len(draws.shifts)
    x = torch.tensor(draws.noise, dtype=torch.float64)
    labels = torch.from_numpy(draws.labels)
    first = second = torch.zeros_like(x)
    iterates, losses = [x], []
    for t, (down, right) in enumerate(draws.shifts.tolist(), start=1):
        x = x.requires_grad_()
        rows = [(row - down) % x.shape[2] for row in range(x.shape[2])]
        columns = [(column - right) % x.shape[3] for column in range(x.shape[3])]
        terms = plain_total(network, x[:, :, rows][..., columns], labels, draws.coefficients)
        (g,) = torch.autograd.grad(terms[3], [x])
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g * g
        step = (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
        x = x.detach() - rates[t - 1] * step
        iterates.append(x)
        losses.append(terms.detach())
    return iterates, losses


def test_the_last_iterate_of_a_plain_loop_is_returned(tiny_teacher):
    tiny_teacher.requires_grad_(False)
    draws = draws_for(tiny_teacher, iterations=6)
    pixels, last_losses = optimise(
        tiny_teacher.network, draws, learning_rate=LEARNING_RATE, device=torch.device("cpu")
    )
    iterates, losses = plain_iterates(tiny_teacher.network, draws)
    torch.testing.assert_close(pixels.double(), iterates[-1], atol=2e-3, rtol=0)
    assert (pixels - iterates[-2]).abs().mean() > 0.01
    torch.testing.assert_close(last_losses.double(), losses[-1], rtol=1e-3, atol=1e-4)


def test_neither_the_noise_nor_the_images_change_when_adam_steps_again(tiny_teacher, monkeypatch):
    made = []

    class RememberedAdam(torch.optim.Adam):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", RememberedAdam)
    draws = draws_for(tiny_teacher, iterations=2)
    noise = draws.noise.copy()
    pixels, _ = optimise(
        tiny_teacher.network, draws, learning_rate=LEARNING_RATE, device=torch.device("cpu")
    )
    assert np.array_equal(draws.noise, noise)
    assert not np.shares_memory(pixels.numpy(), draws.noise)
    made.clear()

    batch = Inversion(tiny_teacher, iterations=2).synthesize(seed=0, batch=0, size=5)
    images = batch.images.clone()
    (optimizer,) = made
    (pixels,) = optimizer.param_groups[0]["params"]
    before = pixels.detach().clone()
    optimizer.step()
    assert not torch.equal(pixels, before)
    assert torch.equal(batch.images, images)


def test_a_batch_is_denormalised_clipped_and_in_the_data_types_of_the_contract(tiny_teacher):
    inversion = Inversion(tiny_teacher, iterations=3, coefficients=CoefficientSampler(rule="paper"))
    batch = inversion.synthesize(seed=1, batch=2, size=8)
    draws = draws_for(tiny_teacher, iterations=3, seed=1, batch=2, size=8, labels="per_batch")
    pixels, losses = optimise(
        tiny_teacher.network, draws, learning_rate=LEARNING_RATE, device=torch.device("cpu")
    )
    mean, std = torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.3])
    expected = (pixels * std.view(1, 2, 1, 1) + mean.view(1, 2, 1, 1)).clamp(0, 1)
    torch.testing.assert_close(batch.images, expected)
    assert batch.images.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == [2] * 8
    assert {name: values.dtype.name for name, values in batch.record.items()} == DSS.columns
    assert recorded(batch, "alpha") == list(draws.coefficients)
    torch.testing.assert_close(recorded(batch, "loss"), losses.tolist())
    assert not batch.images.requires_grad


def test_coefficients_are_constant_within_a_batch_and_differ_between_batches(tiny_teacher):
    inversion = Inversion(tiny_teacher, iterations=40)
    batches = [inversion.synthesize(seed=0, batch=index, size=4) for index in range(4)]
    assert len({tuple(recorded(batch, "alpha")) for batch in batches}) == 4
    for batch in batches:
        # The last of 40 iterations is weighted with what was drawn before the first.
        *terms, total = recorded(batch, "loss")
        weights = recorded(batch, "alpha")
        assert total == pytest.approx(np.dot(weights, terms), rel=1e-5)


def test_a_batch_is_the_same_whatever_was_made_before(tiny_teacher):
    inversion = Inversion(tiny_teacher, iterations=4)
    alone = inversion.synthesize(seed=7, batch=3, size=4)
    other = inversion.synthesize(seed=7, batch=0, size=4)
    again = inversion.synthesize(seed=7, batch=3, size=4)
    assert torch.equal(again.images, alone.images)
    assert again.record == alone.record
    assert not torch.equal(other.images, alone.images)


def test_the_holdout_is_balanced_under_every_rule_and_made_of_other_images(tiny_teacher):
    for rule in ("per_batch", "random", "balanced"):
        inversion = Inversion(tiny_teacher, iterations=2, labels=rule)
        holdout = inversion.synthesize(seed=0, batch=0, size=9, stream=RngStream.HOLDOUT)
        trained_on = inversion.synthesize(seed=0, batch=0, size=9)
        assert torch.bincount(holdout.labels).tolist() == [3, 3, 3]
        assert not torch.isclose(holdout.images, trained_on.images).all()


def test_a_fixed_holdout_is_weighted_as_such_and_no_other_image_changes(tiny_teacher):
    alike, fixed = (
        Inversion(tiny_teacher, iterations=4, holdout=holdout) for holdout in ("alike", "fixed")
    )
    for batch in range(2):
        drawn, held = (
            one.synthesize(seed=0, batch=batch, size=4, stream=RngStream.HOLDOUT)
            for one in (alike, fixed)
        )
        assert recorded(held, "alpha") == pytest.approx([1.0, 0.1, 2.5e-5])
        assert recorded(drawn, "alpha") != recorded(held, "alpha")
        assert torch.equal(drawn.labels, held.labels)
        one, other = (each.synthesize(seed=0, batch=batch, size=4) for each in (alike, fixed))
        assert torch.equal(one.images, other.images)


def hooks(module):
    return [m for m in module.modules() if m._forward_pre_hooks or m._forward_hooks]


@pytest.mark.parametrize("training", [False, True])
def test_the_teacher_is_left_as_it_was(tiny_teacher, training):
    tiny_teacher.train(training).requires_grad_(True)
    before = tiny_teacher.fingerprint()
    seen = []

    def look(*_):
        seen.append((hooks(tiny_teacher), tiny_teacher.training))

    Inversion(tiny_teacher, iterations=3).synthesize(seed=0, batch=0, size=4, on_iteration=look)
    assert seen == 3 * [([], training)]
    assert tiny_teacher.fingerprint() == before
    assert all(module.training == training for module in tiny_teacher.modules())
    assert all(p.grad is None and p.requires_grad for p in tiny_teacher.parameters())


def test_hooks_are_removed_when_an_iteration_is_interrupted(tiny_teacher):
    def interrupt(*_):
        raise KeyboardInterrupt

    inversion = Inversion(tiny_teacher, iterations=3)
    with pytest.raises(KeyboardInterrupt):
        inversion.synthesize(seed=0, batch=0, size=4, on_iteration=interrupt)
    assert hooks(inversion.teacher) == []


def test_a_teacher_without_running_statistics_is_refused(make_teacher):
    without = make_teacher(nn.Flatten(), nn.Linear(60, 3))
    untracked = make_teacher(
        nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(60, 3)
    )
    for teacher in (without, untracked):
        with pytest.raises(InputError, match="BatchNorm"):
            Inversion(teacher)


@pytest.mark.parametrize("learning_rate", [0.1, 1e6])
def test_a_synthesis_that_diverges_is_an_error(tiny_teacher, learning_rate):
    # At 0.1 the losses overflow while every pixel stays finite and would be clipped to 0 or 1.
    steep = CoefficientSampler(rule="fixed", tv_scale=1e37)
    inversion = Inversion(
        tiny_teacher, iterations=4, learning_rate=learning_rate, coefficients=steep
    )
    with pytest.raises(DfshieldError, match=r"batch 3.*learning_rate"):
        inversion.synthesize(seed=0, batch=3, size=4)


def test_the_loss_falls_and_the_teacher_recognises_what_it_was_asked_for(digits_teacher):
    options = {"jitter": 0, "coefficients": CoefficientSampler(rule="fixed"), "labels": "balanced"}
    start, end = (
        Inversion(digits_teacher, iterations=n, **options).synthesize(seed=0, batch=0, size=50)
        for n in (1, 100)
    )
    assert end.record["loss_total"] < 0.3 * start.record["loss_total"]
    for term in ("loss_class", "loss_feature"):
        assert end.record[term] < start.record[term]
    with torch.no_grad():
        predicted = digits_teacher(end.images).argmax(dim=1)
    assert (predicted == end.labels).double().mean() > 0.8
    assert end.images.min() >= 0
    assert end.images.max() <= 1


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_batch_that_goes_on_from_a_state_equals_one_that_never_stopped(tiny_teacher, stop_after):
    inversion = Inversion(tiny_teacher, iterations=7, jitter=1)
    whole = inversion.synthesize(seed=0, batch=3, size=4)
    kept = []

    def keep(done, state):
        if done == stop_after:
            kept.append(copy.deepcopy(state()))

    inversion.synthesize(seed=0, batch=3, size=4, on_iteration=keep)
    (state,) = kept
    assert state.iteration == stop_after
    done = []
    for _ in range(2):  # going on does not use the state up
        again = inversion.synthesize(
            seed=0, batch=3, size=4, resume=state, on_iteration=lambda n, _: done.append(n)
        )
        assert torch.equal(again.images, whole.images)
        assert again.record == whole.record
    assert done == 2 * list(range(stop_after + 1, 8))
