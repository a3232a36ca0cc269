"""What test_worker_group.py runs in worker groups: `group_worker.py FOLDER` puts results there."""

import sys
from copy import deepcopy
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from dfshield.errors import DfshieldError
from dfshield.schedules import Cosine, Piecewise
from dfshield.seeds import RngStream, generator
from dfshield.training import (
    MEASURES,
    OBJECTIVES,
    AdversarialTrainer,
    GradRefine,
    InnerMaximization,
    TorchWorkerGroup,
    WorkerGroup,
    holdout_metrics,
)
from dfshield.training.augmentations import Crop, Cutmix, Cutout, Flip
from dfshield.training.averages import Ema, Swa

RUNS = {
    # 13 mini-batches an epoch: groups of 6, 6, 1; 5, 5, 3; and 2, ..., 2, 1.
    "convolutional, K = 6, linf": ("convolutional", 6, "linf", "soft-label"),
    "convolutional, K = 5, l2": ("convolutional", 5, "l2", "mart"),
    "convolutional, K = 2, l2": ("convolutional", 2, "l2", "ard"),
    "dropout, K = 6, l2": ("dropout", 6, "l2", "rslad"),
    "dropout, K = 5, linf": ("dropout", 5, "linf", "std"),
    "frozen, K = 6, l2": ("frozen", 6, "l2", "trades"),
}
"""Network, mini-batches of a group, norm and objective; every objective is there."""
INGREDIENTS = {
    "convolutional, K = 5, l2": {"schedule": Cosine(warmup=0.4), "average": Ema(decay=0.8)},
    "dropout, K = 6, l2": {
        "schedule": Piecewise(),
        "average": Swa(start=1),
        "inner": InnerMaximization(
            eps=0.5, norm="l2", num_steps=3, first_steps=1, loss="teacher-kl"
        ),
    },
    "frozen, K = 6, l2": {
        "average": Ema(decay=0.5),
        "batches_per_pass": 2,
        "inner": InnerMaximization(eps=0.5, norm="l2", num_steps=1, start="kept"),
    },
    "convolutional, K = 2, l2": {"weight_perturbation": 0.05},
    "dropout, K = 5, linf": {
        "augmentations": [Flip(), Crop(padding=2), Cutout(size=3), Cutmix()],
        "weight_perturbation": 0.01,
        "batches_per_pass": 2,
    },
}
"""What these runs have beside that."""
# What stands still in training, by network: a layer of two names.
STILL = {
    "frozen": [f"{i}.{k}" for i in (1, 4) for k in ("running_mean", "running_var")]
    + [f"{i}.num_batches_tracked" for i in (1, 4)]
}
SEED = 5
SIZES = (1, 2, 3)


class Convolutional(nn.Sequential):
    """Its first BatchNorm is used twice in a pass."""

    def __init__(self):
        norm = nn.BatchNorm2d(4)
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            norm,
            nn.Tanh(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            norm,
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, stride=2),
            nn.BatchNorm2d(6, momentum=None),
            nn.Flatten(),
            nn.Linear(24, 4),
        )


class Dropout(nn.Sequential):
    """Draws from torch's global generator in train mode."""

    def __init__(self):
        super().__init__(
            nn.Flatten(),
            nn.Linear(36, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(12, 4),
        )


class Frozen(Convolutional):
    """Its first BatchNorm keeps its statistics."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def make_student(network: str) -> nn.Module:
    student = {"convolutional": Convolutional, "dropout": Dropout, "frozen": Frozen}[network]()
    rng = torch.Generator().manual_seed(1)
    for parameter in student.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=rng)
    return student


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return 51 images and logits for them."""
    rng = torch.Generator().manual_seed(2)
    return torch.rand(51, 1, 6, 6, generator=rng), 2 * torch.randn(51, 4, generator=rng)


def make_trainer(run: str, group: WorkerGroup | None, **changes: object) -> AdversarialTrainer:
    network, num_batches, norm, name = RUNS[run]
    objective = OBJECTIVES.make(name)
    student = make_student(network)
    images, teacher_logits = data()
    arguments = {
        "images": images,
        "labels": torch.arange(51) % 4,
        "teacher_logits": teacher_logits,
        "optimizer": torch.optim.SGD(
            student.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2
        ),
        "objective": objective,
        "inner": InnerMaximization(
            eps=0.1 if norm == "linf" else 0.5,
            norm=norm,
            num_steps=2,
            loss=objective.inner_loss,
            start=objective.inner_start,
        ),
        "epochs": 2,
        "batch_size": 4,
        "num_batches": num_batches,
        "seed": SEED,
        "group": group,
        "teacher": make_student(network),
    }
    return AdversarialTrainer(student, **(arguments | INGREDIENTS.get(run, {}) | changes))


def trained(trainer: AdversarialTrainer) -> dict:
    """Train to the end; return states and records of every update, and of every epoch the rest."""
    states, records, holdout, averages = [], [], [], []
    images, teacher_logits = data()
    while not trainer.done:
        record = trainer.step()
        records.append(asdict(record))
        states.append(deepcopy(trainer.state_dict()))
        if record.ends_epoch:
            with trainer.averaged():
                averages.append(deepcopy(trainer.student.state_dict()))
                metrics = holdout_metrics(
                    trainer.student,
                    images,
                    teacher_logits,
                    inner=InnerMaximization(eps=0.5, num_steps=2),
                    generator=partial(generator, SEED, RngStream.TRAINING, record.epoch, 1 << 30),
                    batch_size=8,
                    group=trainer.group,
                    measure=MEASURES.make("agreement_ce_mixtures", num_steps=2),
                    teacher=make_student("convolutional"),
                )
            holdout.append(metrics.model_dump())
    return {"states": states, "records": records, "holdout": holdout, "averages": averages}


def refined(group: WorkerGroup | None, num_batches: int) -> dict:
    """Refine gradients of which some parameters have none in most mini-batches, or in all."""
    rank, size = (group.rank, group.size) if group else (0, 1)
    always, once, never = (nn.Parameter(torch.ones(n)) for n in (300, 40, 5))
    optimizer = torch.optim.SGD([always, once, never], lr=0.1, momentum=0.9, weight_decay=0.1)
    refine = GradRefine(optimizer, tau=0.5, group=group)
    scale = 10.0 ** torch.linspace(-6, 2, 300)
    rates = []
    for update in range(3):
        for batch in range(num_batches)[rank::size]:
            rng = torch.Generator().manual_seed(100 * update + batch)
            always.grad = scale * torch.randn(300, generator=rng)
            once.grad = torch.randn(40, generator=rng) if batch == num_batches - 1 else None
            refine.accumulate()
        rates.append(refine.step())
    return {
        "parameters": [p.detach().clone() for p in (always, once, never)],
        "rates": rates,
        "stepped": [p in optimizer.state for p in (always, once, never)],
    }


def diverged(group: WorkerGroup | None) -> dict:
    """Train with one mini-batch, the fifth of the first group, whose gradient is not finite."""
    _, teacher_logits = data()
    order = generator(SEED, RngStream.TRAINING, 0).permutation(51)
    teacher_logits[order[4 * 4]] = float("inf")
    trainer = make_trainer("convolutional, K = 6, linf", group, teacher_logits=teacher_logits)
    before = deepcopy(trainer.student.state_dict())
    try:
        trainer.step()
    except DfshieldError as error:
        return {"error": str(error), "before": before, "after": trainer.student.state_dict()}
    return {"error": ""}


class Counting(TorchWorkerGroup):
    """Counts the collective operations."""

    def __init__(self):
        super().__init__()
        self.calls = {"all_reduce": 0, "all_gather": 0}

    def all_reduce(self, tensor):
        self.calls["all_reduce"] += 1
        super().all_reduce(tensor)

    def all_gather(self, value):
        self.calls["all_gather"] += 1
        return super().all_gather(value)


class Averaging(TorchWorkerGroup):
    """Wrong: averages, as DistributedDataParallel does."""

    def all_reduce(self, tensor):
        super().all_reduce(tensor)
        tensor /= self.size


class Secretive(TorchWorkerGroup):
    """Wrong: does not gather."""

    def all_gather(self, value):
        return [value]


def one_update(group: WorkerGroup | None) -> dict:
    trainer = make_trainer("convolutional, K = 6, linf", group)
    trainer.step()
    return trainer.student.state_dict()


def results(group: WorkerGroup | None) -> dict:
    """Return everything that must be the same on every worker of every group."""
    return {
        "runs": {run: trained(make_trainer(run, group)) for run in RUNS},
        "refined": [refined(group, num_batches) for num_batches in (1, 5, 6)],
        "diverged": diverged(group),
    }


def work(rank: int, size: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"{folder.as_uri()}/rendezvous-{size}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )
    group = Counting()
    result = results(group)
    trainer = make_trainer("convolutional, K = 5, l2", group)
    trainer.load_state_dict(torch.load(folder / "state.pt", weights_only=True))
    result["resumed"] = trained(trainer)
    group.calls = dict.fromkeys(group.calls, 0)
    one_update(group)
    result["calls"] = group.calls
    result["averaging"] = one_update(Averaging())
    result["secretive"] = one_update(Secretive())
    torch.save(result, folder / f"result-{size}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    for size in SIZES:
        # Forked, so that torch is imported once for all of them.
        torch.multiprocessing.start_processes(
            work, args=(size, Path(sys.argv[1])), nprocs=size, start_method="fork"
        )
