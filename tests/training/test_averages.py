"""Averages of students against float64 means and PyTorch's own, and what they leave untouched."""

from contextlib import suppress
from copy import deepcopy

import numpy as np
import pytest
import torch
from small_trainer import make_trainer
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from dfshield.errors import InputError
from dfshield.training import AVERAGES
from dfshield.training.averages import Ema, Swa


def weights(student):
    return torch.cat([p.detach().flatten() for p in student.parameters()])


def statistics(student):
    return {k: v.clone() for k, v in student.state_dict().items() if "running_" in k}


def trained(make_student, images, average, **changes):
    """Train; return the trainer, the weights after each update, and which of these end an epoch."""
    trainer = make_trainer(make_student(), images, average=average, **changes)
    after, ends = [], []
    while not trainer.done:
        ends.append(trainer.step().ends_epoch)
        after.append(weights(trainer.student).double().numpy())
    return trainer, np.stack(after), np.array(ends)


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_ema_is_the_mean_whose_weights_decay_with_age(make_student, images, decay):
    trainer, after, _ = trained(make_student, images, Ema(decay=decay))
    share = decay ** np.arange(len(after))[::-1]
    expected = np.average(after, axis=0, weights=share)
    with trainer.averaged():
        averaged = weights(trainer.student)
    np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(after[-1] - expected).max() > 1e-3


@pytest.mark.parametrize(("start", "first"), [(1, 1), (3, 3), (4, 4), (None, 4)])
def test_swa_is_the_mean_of_the_students_of_the_last_epochs(make_student, images, start, first):
    trainer, after, ends = trained(make_student, images, Swa(start=start), epochs=4)
    of_epochs = after[ends]
    assert len(of_epochs) == 4
    with trainer.averaged():
        averaged = weights(trainer.student)
    np.testing.assert_allclose(averaged, of_epochs[first - 1 :].mean(0), rtol=1e-5, atol=1e-6)


def test_swa_is_pytorchs(make_student, images):
    trainer = make_trainer(make_student(), images, average=Swa(start=1), epochs=3)
    theirs = AveragedModel(trainer.student)
    while not trainer.done:
        if trainer.step().ends_epoch:
            theirs.update_parameters(trainer.student)
    with trainer.averaged():
        torch.testing.assert_close(weights(trainer.student), weights(theirs.module))


def test_its_statistics_are_those_of_the_clean_images(make_student, images):
    images = images[:48]  # six whole mini-batches, which PyTorch's function counts alike
    trainer, *_ = trained(make_student, images, Ema(decay=0.5), labels=torch.zeros(48).long())
    with trainer.averaged():
        model = deepcopy(trainer.student)
        found = statistics(trainer.student)
    update_bn(list(images.split(8)), model)
    for name, value in statistics(model).items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_a_short_mini_batch_counts_by_its_images(make_student, images):
    trainer, *_ = trained(make_student, images, Ema(decay=0.5))  # 6 of 8, and one of 2
    with trainer.averaged():
        model = nn.Sequential(*list(trainer.student)[:1]).eval()
        features = model(images).detach()
        mean = features.mean(dim=(0, 2, 3))
        torch.testing.assert_close(trainer.student[1].running_mean, mean, rtol=1e-4, atol=1e-5)


class Frozen(nn.Sequential):
    """Its first BatchNorm keeps its statistics, and its dropout draws in train mode."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def test_layers_that_keep_their_statistics_keep_them(make_student, images):
    layers = list(make_student())
    trainer = make_trainer(
        Frozen(*layers[:7], nn.Dropout(0.5), layers[7]), images, average=Ema(decay=0.5)
    )
    trainer.step()
    before = statistics(trainer.student)
    with trainer.averaged():
        within = statistics(trainer.student)
    for name, value in before.items():
        assert torch.equal(within[name], value) == name.startswith("1."), name


@pytest.mark.parametrize("mode", [True, False])
def test_afterwards_the_student_is_as_it_was(make_student, images, mode):
    trainer, *_ = trained(make_student, images, Ema(decay=0.5))
    trainer.student.train(mode)
    before, state = deepcopy(trainer.student.state_dict()), torch.get_rng_state()
    parameters = [id(p) for p in trainer.student.parameters()]
    with suppress(KeyboardInterrupt), trainer.averaged():
        assert not torch.equal(trainer.student[7].weight, before["7.weight"])
        assert trainer.student.training == mode
        raise KeyboardInterrupt
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert trainer.student.training == mode
    assert [id(p) for p in trainer.student.parameters()] == parameters
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in trainer.student.parameters())


@pytest.mark.parametrize("average", [None, Swa(start=2)])
def test_before_there_is_an_average_the_student_is_what_it_is(make_student, images, average):
    trainer = make_trainer(make_student(), images, average=average)
    for _ in range(3):
        trainer.step()
    before = deepcopy(trainer.student.state_dict())
    with trainer.averaged():
        for name, value in trainer.student.state_dict().items():
            assert torch.equal(value, before[name]), name
    assert "average" not in trainer.state_dict()


def test_an_average_does_not_touch_the_training(make_student, images):
    plain, averaged = (
        make_trainer(make_student(), images, average=average) for average in (None, Ema(decay=0.5))
    )
    while not plain.done:
        assert plain.step() == averaged.step()
        with averaged.averaged():
            pass
    for name, value in plain.student.state_dict().items():
        assert torch.equal(averaged.student.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AVERAGES.make("ema", decay=0), "decay: 0 must be a number above 0 and below 1"),
        (lambda: AVERAGES.make("ema", decay=1.0), "decay: 1.0 must be"),
        (lambda: AVERAGES.make("ema", decay=float("nan")), "decay: nan must be"),
        (lambda: AVERAGES.make("swa", start=0), "start: 0 must be a whole number of at least 1"),
        (lambda: Swa(start=5).require_begun(4), "start: 5 is after the last of 4 epochs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_a_training_that_ends_before_its_average_begins_is_refused(make_student, images):
    with pytest.raises(InputError, match="start: 3 is after the last of 2 epochs"):
        make_trainer(make_student(), images, average=Swa(start=3))
