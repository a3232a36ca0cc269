"""Hardening a small classifier of real digits, whose BatchNorm statistics may be frozen.

`frozen_digits.py FOLDER` hardens the frozen one on two workers and puts the students there.
"""

import copy
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from dfshield.attacks import PGD
from dfshield.classifiers import Architecture, Classifier
from dfshield.engine.acceleration import Acceleration
from dfshield.synthesis import Inversion
from dfshield.training import (
    AdversarialTrainer,
    InnerMaximization,
    SoftLabelObjective,
    TorchWorkerGroup,
    WorkerGroup,
    require_deferrable,
)

EPS = 0.1


class Net(nn.Sequential):
    """A small network of 8x8 images, whose BatchNorm layers may be frozen."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
        self.frozen = False

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            for layer in (self[1], self[4], self[7]):
                layer.eval()
        return self


def digits():
    """Return images and labels to learn from, and others to test on."""
    data = load_digits()
    x = torch.from_numpy(data.images).float()[:, None] / 16
    y = torch.from_numpy(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


def trained_teacher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    x, y, _, _ = digits()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for epoch in range(8):
        rng = torch.Generator().manual_seed(epoch)
        for rows in torch.randperm(len(x), generator=rng).split(100):
            optimizer.zero_grad()
            F.cross_entropy(net((x[rows] - 0.5) / 0.5), y[rows]).backward()
            optimizer.step()
    architecture = Architecture("python:net:make", {}, (1, 8, 8), 10)
    return Classifier(net, architecture=architecture, mean=[0.5], std=[0.5]).eval()


def surrogate(teacher):
    """Return synthetic images, their labels and the teacher's logits."""
    inversion = Inversion(copy.deepcopy(teacher), iterations=100, labels="random")
    batches = [inversion.synthesize(seed=0, batch=index, size=100) for index in range(4)]
    images = torch.cat([batch.images for batch in batches])
    with torch.no_grad():
        return images, torch.cat([batch.labels for batch in batches]), teacher(images)


def student_of(
    teacher,
    images,
    labels,
    teacher_logits,
    *,
    frozen,
    acceleration,
    group: WorkerGroup | None = None,
):
    student = copy.deepcopy(teacher).requires_grad_(True)
    student.network.frozen = frozen
    require_deferrable(student, images[:8])
    trainer = AdversarialTrainer(
        student,
        images=images,
        labels=labels,
        teacher_logits=teacher_logits,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9),
        objective=SoftLabelObjective(),
        inner=InnerMaximization(eps=EPS, num_steps=3),
        epochs=4,
        batch_size=50,
        num_batches=2,
        acceleration=acceleration,
        group=group,
    )
    while not trainer.done:
        trainer.step()
    return student.eval()


def accuracies(model):
    """Return clean accuracy and that under attack."""
    _, _, x, y = digits()
    attacked = PGD(eps=EPS, num_steps=5)(model, x, y, seed=0)
    with torch.no_grad():
        return tuple(
            (model(images).argmax(1) == y).float().mean().item() for images in (x, attacked)
        )


def running_statistics(model):
    return {name: value for name, value in model.state_dict().items() if "running_" in name}


def check_digits(teacher, data, acceleration):
    frozen, other = (
        student_of(teacher, *data, frozen=flag, acceleration=acceleration) for flag in (True, False)
    )
    (clean, robust), (other_clean, other_robust) = accuracies(frozen), accuracies(other)
    print(
        f"teacher {accuracies(teacher)}, frozen {clean, robust}, other {other_clean, other_robust}"
    )
    # Of 597 test images; where layers were normalised by nothing, it was one in ten.
    assert clean > other_clean - 0.05 > 0.8
    assert robust > other_robust - 0.07
    before = running_statistics(teacher)
    assert len(before) == 6
    for name, value in running_statistics(frozen).items():
        assert torch.equal(value, before[name]), name
        assert not torch.equal(running_statistics(other)[name], before[name])


def work(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"{folder.as_uri()}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    teacher = trained_teacher()
    student = student_of(
        teacher,
        *surrogate(teacher),
        frozen=True,
        acceleration=Acceleration(),
        group=TorchWorkerGroup(),
    )
    torch.save(student.state_dict(), folder / f"student-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    # Forked, so that torch is imported once for both.
    torch.multiprocessing.start_processes(
        work, args=(Path(sys.argv[1]),), nprocs=2, start_method="fork"
    )
