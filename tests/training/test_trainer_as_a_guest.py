"""What the trainer leaves of itself in a student, and what others have left for it."""

import copy

import pytest
import torch

from dfshield.classifiers import Classifier
from dfshield.errors import InputError
from dfshield.synthesis import Inversion
from dfshield.training import AdversarialTrainer, InnerMaximization, SoftLabelObjective


def logits_of(student, images):
    with torch.no_grad():
        return 3 * copy.deepcopy(student).eval()(images)


def trainer_of(student, images, **changes):
    logits = logits_of(student, images)
    given = {
        "images": images,
        "labels": logits.argmax(1),
        "teacher_logits": logits,
        "optimizer": torch.optim.SGD(
            [weight for weight in student.parameters() if weight.requires_grad],
            lr=0.05,
            momentum=0.9,
        ),
        "objective": SoftLabelObjective(),
        "inner": InnerMaximization(eps=0.1, num_steps=1),
        "epochs": 2,
        "batch_size": 8,
        "num_batches": 3,
    }
    return AdversarialTrainer(student, **{**given, **changes})


def trained(trainer):
    while not trainer.done:
        trainer.step()
    return copy.deepcopy(trainer.student.state_dict())


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_teacher_that_was_inverted_is_copied_and_trained(make_student, images):
    teacher = Classifier.wrap(make_student(), input_shape=(1, 6, 6)).train()
    inversion = Inversion(teacher, iterations=1)
    batch = inversion.synthesize(seed=0, batch=0, size=12)
    student = copy.deepcopy(teacher)
    record = trainer_of(student, batch.images).step()
    assert record.loss > 0
    assert not equal(student.state_dict(), teacher.state_dict())
    # And what is done to the teacher meanwhile is not seen by the inversion.
    trained(trainer_of(teacher, images))
    assert torch.equal(inversion.synthesize(seed=0, batch=0, size=12).images, batch.images)


def test_a_step_after_the_last_epoch_is_one_line(make_student, images):
    trainer = trainer_of(make_student(), images)
    weights = trained(trainer)
    with pytest.raises(InputError, match="epochs: all 2 are over"):
        trainer.step()
    assert equal(trainer.student.state_dict(), weights)
    assert (trainer.epoch, trainer.update) == (2, 0)


@pytest.mark.parametrize("training", [True, False])
def test_every_layer_stays_in_the_mode_that_its_owner_gave_it(make_student, images, training):
    student = make_student().train(training)
    student[1].eval()
    trained(trainer_of(student, images))
    assert [layer.training for layer in student] == [
        training and index != 1 for index in range(len(student))
    ]


def test_gradients_that_its_owner_has_left_are_no_part_of_the_first_step(make_student, images):
    student = make_student()
    for weight in student.parameters():
        weight.grad = torch.full_like(weight, 1e3)
    assert equal(trained(trainer_of(student, images)), trained(trainer_of(make_student(), images)))
    assert all(weight.grad is None for weight in student.parameters())


def test_weights_that_are_frozen_stay(make_student, images):
    student = make_student()
    student[0].requires_grad_(False)
    before = copy.deepcopy(student.state_dict())
    after = trained(trainer_of(student, images))
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["3.weight"], before["3.weight"])
    assert not student[0].weight.requires_grad


@pytest.mark.parametrize("passes", [1, 4, 11])
def test_a_step_that_was_interrupted_can_be_taken_again(make_student, images, passes):
    expected = trained(trainer_of(make_student(), images))
    student, seen = make_student(), []

    def interrupt(*_):
        seen.append(1)
        if len(seen) == passes:
            raise KeyboardInterrupt

    trainer = trainer_of(student, images)
    before = copy.deepcopy(student.state_dict())
    handle = student[3].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.step()
    handle.remove()
    assert equal(student.state_dict(), before)
    assert all(weight.grad is None for weight in student.parameters())
    assert trainer.updates_done == 0
    assert equal(trained(trainer), expected)


def test_a_state_that_was_loaded_is_not_used_up(make_student, images):
    first = trainer_of(make_student(), images)
    first.step()
    state = copy.deepcopy(first.state_dict())
    kept = copy.deepcopy(state)
    expected = trained(first)
    for _ in range(2):
        logits = logits_of(make_student(), images)
        again = trainer_of(make_student(3), images, teacher_logits=logits)
        again.load_state_dict(state)
        assert equal(trained(again), expected)
    for index, values in kept["optimizer"]["state"].items():
        assert equal(values, state["optimizer"]["state"][index])
    assert equal(state["student"], kept["student"])


def test_gradients_may_be_switched_off_around_it(make_student, images):
    trainer = trainer_of(make_student(), images)
    with torch.no_grad():
        weights = trained(trainer)
    assert equal(weights, trained(trainer_of(make_student(), images)))


def test_a_last_mini_batch_of_one_image_that_cannot_be_trained_on_is_told_first(images):
    student = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(36, 4), torch.nn.BatchNorm1d(4)
    )
    with pytest.raises(InputError, match=r"batch_size: 7 leaves one of 50 .* fails in train mode"):
        trainer_of(student, images, batch_size=7)
    assert trainer_of(student, images, batch_size=8).step().loss >= 0
