"""Layers that draw from torch's global generators do not make a run unrepeatable."""

import copy

import torch
from torch import nn

from dfshield.training import AdversarialTrainer, InnerMaximization, SoftLabelObjective


def trained(model: nn.Module, stray_draws: int) -> nn.Module:
    student = copy.deepcopy(model)
    images = torch.linspace(0, 1, 24 * 16).reshape(24, 1, 4, 4)
    trainer = AdversarialTrainer(
        student,
        images=images,
        labels=torch.arange(24) % 3,
        teacher_logits=model.eval()(images).detach(),
        optimizer=torch.optim.SGD(student.parameters(), lr=0.05),
        objective=SoftLabelObjective(),
        inner=InnerMaximization(eps=0.1, num_steps=2),
        epochs=2,
        batch_size=6,
        num_batches=2,
        seed=3,
    )
    while not trainer.done:
        torch.rand(stray_draws)  # what else the process drew must not matter
        trainer.step()
    return student


def test_dropout_is_drawn_from_the_seed_and_leaves_the_global_state_alone():
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    )
    first = trained(model, stray_draws=1)
    state = torch.get_rng_state()
    second = trained(model, stray_draws=0)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
