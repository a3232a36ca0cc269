"""A training of a small student, its whole state, and whether two are at the same one."""

from copy import deepcopy

import torch
import torch.nn.functional as F

from dfshield.training import AdversarialTrainer, InnerMaximization, SoftLabelObjective


def logits_of(images):
    rng = torch.Generator().manual_seed(9)
    return (2 * torch.randn(len(images), 4, generator=rng)).to(images.dtype)


def make_trainer(student, images, **changes):
    labels = torch.arange(len(images))  # a label per image tells which image it was
    arguments = {
        "images": images,
        "labels": labels,
        "teacher_logits": logits_of(images),
        "optimizer": torch.optim.SGD(
            student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
        ),
        "objective": SoftLabelObjective(),
        # l_2: its steps are continuous, so the last bit of a gradient cannot flip a sign.
        "inner": InnerMaximization(eps=0.5, norm="l2", num_steps=2),
        "epochs": 2,
        "batch_size": 8,
        "num_batches": 3,
        "tau": 0.5,
        "seed": 5,
    }
    return AdversarialTrainer(student, **(arguments | changes))


def equation_11(clean, adversarial, teacher):
    def kl(a, b):
        a, b = F.log_softmax(a, dim=1), F.log_softmax(b, dim=1)
        return (a.exp() * (a - b)).sum() / len(a)

    return kl(teacher, clean) + kl(teacher, adversarial) + kl(clean, adversarial)


def full_state(trainer):
    return deepcopy(trainer.state_dict())


def assert_equal_to_the_bit(trainer, other):
    for name, value in other.student.state_dict().items():
        assert torch.equal(trainer.student.state_dict()[name], value), name
    ours, theirs = trainer.optimizer.state_dict(), other.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, values in theirs["state"].items():
        assert torch.equal(ours["state"][index]["momentum_buffer"], values["momentum_buffer"])
    assert (trainer.epoch, trainer.update) == (other.epoch, other.update)
    means = [t.state_dict().get("average", []) for t in (trainer, other)]
    assert all(torch.equal(one, two) for one, two in zip(*means, strict=True))
