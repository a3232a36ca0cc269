"""Adversarial weight perturbation against its formula, and what it leaves as it was."""

from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from small_trainer import equation_11, logits_of, make_trainer

from dfshield.errors import DfshieldError, InputError
from dfshield.seeds import RngStream, generator
from dfshield.training import SingleWorker, WeightPerturbation

RADIUS = 0.05


def test_a_step_is_that_of_gradients_at_the_worst_weights(make_student, images):
    """One group of three mini-batches, K = 3 and tau = 0, written from the formula."""
    images = images.double()[:24]
    trainer = make_trainer(
        make_student().double(), images, tau=0.0, weight_perturbation=RADIUS, epochs=1
    )
    student = make_student().double().train()
    sgd = torch.optim.SGD(
        student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    order = torch.from_numpy(generator(5, RngStream.TRAINING, 0).permutation(24)).split(8)
    logits = logits_of(images)
    attacked = [
        trainer.inner(
            deepcopy(student), images[rows], generator=generator(5, RngStream.TRAINING, 0, batch)
        )
        for batch, rows in enumerate(order)
    ]

    def gradients(model):
        for rows, x_adv in zip(order, attacked, strict=True):
            still = deepcopy(model)
            loss = equation_11(still(images[rows]), still(x_adv), logits[rows])
            yield torch.autograd.grad(loss, list(still.parameters()))

    worst = deepcopy(student)
    for weight, *each in zip(worst.parameters(), *gradients(student), strict=True):
        total = sum(each)
        if weight.ndim > 1:
            weight.data += RADIUS * weight.data.norm() * total / total.norm()
    for parameter, *each in zip(student.parameters(), *gradients(worst), strict=True):
        stack = torch.stack(each)
        majority = stack.sign().sum(dim=0).sign()
        parameter.grad = torch.where(stack.sign() == majority, stack, 0.0).sum(dim=0)
    sgd.step()

    trainer.step()
    assert trainer.done
    for (name, ours), theirs in zip(
        trainer.student.named_parameters(), student.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9, msg=name)


def test_its_radius_is_that_of_every_layer_and_it_goes_away(make_student):
    student = make_student()
    before = deepcopy(student.state_dict())
    perturbation = WeightPerturbation(list(student.parameters()), RADIUS, group=SingleWorker())
    for _ in range(2):
        student(torch.rand(4, 1, 6, 6)).square().sum().backward()
        perturbation.add()
        with suppress(KeyboardInterrupt), perturbation.applied():
            for name, weight in student.named_parameters():
                moved = (weight.detach() - before[name]).norm() / before[name].norm()
                assert moved == pytest.approx(RADIUS if weight.ndim > 1 else 0, rel=1e-3), name
            raise KeyboardInterrupt
        for name, value in student.named_parameters():
            assert torch.equal(value, before[name]), name
    with perturbation.applied():  # of nothing: forgotten
        assert all(torch.equal(w, before[n]) for n, w in student.named_parameters())


def test_it_changes_the_training_but_not_the_statistics_of_its_first_update(make_student, images):
    plain, perturbed = (
        make_trainer(make_student(), images, weight_perturbation=radius, num_batches=7)
        for radius in (None, 1e-6)
    )
    plain.step(), perturbed.step()
    for name, value in plain.student.state_dict().items():
        torch.testing.assert_close(
            perturbed.student.state_dict()[name], value, rtol=1e-3, atol=1e-3, msg=name
        )
    counts = [t.student[1].num_batches_tracked.item() for t in (plain, perturbed)]
    assert counts == [14, 14]  # seven clean and seven adversarial passes each


@pytest.mark.parametrize("radius", [0, -0.01, 0.11, float("nan"), True, "0.01"])
def test_a_radius_that_makes_no_sense_is_refused_by_name(make_student, images, radius):
    with pytest.raises(InputError, match=r"weight_perturbation: .* above 0 and at most 0\.1"):
        make_trainer(make_student(), images, weight_perturbation=radius)


def test_a_training_that_diverges_leaves_the_weights_as_they_were(make_student, images):
    teacher_logits = torch.full((50, 4), float("inf"))
    trainer = make_trainer(
        make_student(), images, teacher_logits=teacher_logits, weight_perturbation=RADIUS
    )
    before = deepcopy(trainer.student.state_dict())
    with pytest.raises(DfshieldError, match="learning_rate"):
        trainer.step()
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[name]), name
