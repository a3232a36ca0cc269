"""Deferred BatchNorm buffers against PyTorch's own train-mode passes."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from dfshield.training import DeferredBatchNorm


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(5 + i, 1, 6, 6, generator=generator) + 0.1 * i for i in range(count)]


def buffers(model):
    return {name: value.clone() for name, value in model.named_buffers()}


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-6, atol=1e-6, msg=name)


def with_momentum(model, momentum):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return model


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, None])
def test_after_apply_the_buffers_are_those_of_ordinary_passes(make_student, momentum):
    plain = with_momentum(make_student().train(), momentum)
    student = deepcopy(plain)
    deferred = DeferredBatchNorm(student)
    for group in (batches(4, seed=1), batches(3, seed=2)):
        for x in group:
            ordinary = plain(x)
            with deferred.recording():
                # The statistics do not enter a train-mode output, so it is the same to the bit.
                assert torch.equal(student(x), ordinary)
        deferred.apply(deferred.take())
        assert_close(buffers(student), buffers(plain))
    assert student[1].num_batches_tracked.item() == 7


def test_the_buffers_stand_still_until_apply(make_student):
    student = make_student().train()
    before, keys = buffers(student), list(student.state_dict())
    identities = [id(value) for value in student.buffers()]
    deferred = DeferredBatchNorm(student)
    x = batches(1)[0]
    evaluated = deepcopy(student).eval()(x)
    for batch in batches(3):
        with deferred.recording():
            student(batch)
        assert_close(buffers(student), before)
        assert torch.equal(student.eval()(x), evaluated)
        student.train()
    assert [id(value) for value in student.buffers()] == identities
    assert list(student.state_dict()) == keys
    deferred.apply(deferred.take())
    assert not torch.equal(student[1].running_mean, before["1.running_mean"])


def test_several_passes_in_one_recording_are_applied_in_order(make_student):
    plain = make_student().train()
    student = deepcopy(plain)
    deferred = DeferredBatchNorm(student)
    clean, adversarial = batches(2)
    with deferred.recording():
        student(clean)
        student(adversarial)
    deferred.apply(deferred.take())
    reverse = deepcopy(plain)
    reverse(adversarial), reverse(clean)
    plain(clean), plain(adversarial)
    assert_close(buffers(student), buffers(plain))
    assert not torch.allclose(plain[1].running_mean, reverse[1].running_mean, atol=1e-4)


def test_take_forgets_what_it_gave(make_student):
    student = make_student().train()
    deferred = DeferredBatchNorm(student)
    with deferred.recording():
        student(batches(1)[0])
    deferred.apply(deferred.take())
    after = buffers(student)
    nothing = deferred.take()
    assert nothing.layers == ()
    deferred.apply(nothing)
    assert_close(buffers(student), after)


def test_records_of_copies_are_applied_in_the_order_in_which_they_are_given(make_student):
    plain = make_student().train()
    student, copy = deepcopy(plain), deepcopy(plain)
    first, second = batches(2)
    records = []
    for model, x in ((student, second), (copy, first)):  # each by another model, the last first
        deferred = DeferredBatchNorm(model)
        with deferred.recording():
            model(x), model(x + 0.5)
        records.append(pickle.loads(pickle.dumps(deferred.take())))  # noqa: S301
    assert records[0].layers == (0, 1, 0, 1)
    deferred = DeferredBatchNorm(student)
    for record in reversed(records):
        deferred.apply(record)
    for x in (first, first + 0.5, second, second + 0.5):
        plain(x)
    assert_close(buffers(student), buffers(plain))


def test_a_layer_that_is_used_twice_in_one_pass():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x):
            return self.norm(2 * self.norm(x) + x)

    plain, student = Twice().train(), Twice().train()
    deferred = DeferredBatchNorm(student)
    for x in batches(3):
        plain(x)
        with deferred.recording():
            student(x)
    deferred.apply(deferred.take())
    assert_close(buffers(student), buffers(plain))
    assert student.norm.num_batches_tracked.item() == 6


def test_gradients_are_those_of_an_ordinary_pass(make_student):
    plain = make_student().train()
    student = deepcopy(plain)
    deferred = DeferredBatchNorm(student)
    x, y = batches(2)
    (plain(x).square().mean() + plain(y).square().mean()).backward()
    with deferred.recording():
        loss = student(x).square().mean() + student(y).square().mean()
    loss.backward()  # after the buffers are back in place
    for ours, theirs in zip(student.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_an_error_inside_recording_puts_everything_back(make_student):
    student = with_momentum(make_student().train(), 0.3)
    before = buffers(student)
    deferred = DeferredBatchNorm(student)

    def record_and_fail():
        with deferred.recording():
            student(batches(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_and_fail()
    assert_close(buffers(student), before)
    assert (student[1].momentum, student[4].momentum) == (0.3, 0.3)
    assert not any(module._forward_hooks for module in student.modules())
