"""Calls of the library with something wrong in each, by what the error must name."""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "classifiers"))

from odd_factories import plain

import dfshield
from dfshield.attacks import PGD, ObjectivePGD, Transfer, make_attack
from dfshield.audit import audit
from dfshield.classifiers import Classifier, build, save, serialised
from dfshield.datasets import ImageSet
from dfshield.defences import TTE
from dfshield.diversity import NearDuplicates, PredictionEntropy
from dfshield.evaluation import evaluate, evaluate_slice
from dfshield.schedules import Cosine
from dfshield.synthesis import Inversion
from dfshield.synthesis.augmentations import CutoutSet, MixupSet
from dfshield.training import (
    AdversarialTrainer,
    GradRefine,
    InnerMaximization,
    SoftLabelObjective,
    TradesObjective,
    holdout_metrics,
    measured_epochs,
    train_supervised,
)
from dfshield.training.augmentations import Flip
from dfshield.training.averages import Swa
from dfshield.training.measures import AgreementCE

torch.set_num_threads(1)
NET = plain().eval()
X = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    Z = NET(X)
Y = Z.argmax(1)
DIGITS = ImageSet(X[:, 0].numpy(), Y.numpy(), tuple("0123456789"), "digits", "train")
WRAPPED = Classifier.wrap(NET, input_shape=(1, 8, 8))
INNER = InnerMaximization(eps=0.1, num_steps=1)
KEPT = InnerMaximization(eps=0.1, num_steps=1, start="kept")


def function(x):
    return NET(x)


def wrap(module=NET, **arguments):
    return Classifier.wrap(module, **{"input_shape": (1, 8, 8), **arguments})


def invert(teacher=WRAPPED, size=2, batches=(0,), seed=0, **arguments):
    inversion = Inversion(teacher, iterations=1, **arguments)
    return inversion.synthesize_batches(seed=seed, batches=batches, size=size)


def trainer(student=None, frozen=False, **arguments):
    student = plain() if student is None else student
    if frozen:
        student.requires_grad_(False)
    weights = student.parameters() if isinstance(student, nn.Module) else plain().parameters()
    given = {
        "images": X,
        "labels": Y,
        "teacher_logits": Z,
        "optimizer": torch.optim.SGD(list(weights) or plain().parameters(), lr=0.1),
        "objective": SoftLabelObjective(),
        "inner": INNER,
        "epochs": 1,
        "batch_size": 5,
    }
    return AdversarialTrainer(student, **{**given, **arguments})


def step_too_far():
    each = trainer()
    for _ in range(2):
        each.step()


def held_out(student=NET, images=X, logits=Z, generator=np.random.default_rng, **more):
    holdout_metrics(student, images, logits, inner=INNER, generator=generator, **more)


def taught(**arguments):
    given = {"classifier": plain(), "train": DIGITS, "validation": DIGITS, "epochs": 1}
    train_supervised(**{**given, **arguments})


def in_inference_mode(call):
    with torch.inference_mode():
        call()


def saved(what):
    with tempfile.TemporaryDirectory() as folder:
        save(what, folder)


class OneImageFails(nn.Module):
    """BatchNorm1d behind a pool: no mini-batch of one image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))

    def forward(self, x):
        return self.layers(x)


CALLS = {
    "module": [
        partial(wrap, function),
        partial(wrap, nn.Linear),
        partial(wrap, "resnet18"),
        partial(wrap, None),
        partial(wrap, WRAPPED),
    ],
    "input_shape": [
        partial(Classifier.wrap, NET, mean=[0.5], std=[0.5]),
        partial(wrap, input_shape=8),
        partial(wrap, input_shape=(8, 8)),
        partial(wrap, input_shape=(0, 8, 8)),
        partial(wrap, input_shape=(1, 8.5, 8)),
        partial(wrap, input_shape="1x8x8"),
        partial(build, "dfshield:resnet8", input_shape=28, num_classes=10),
    ],
    "wrap:torch.nn.modules.container.Sequential fails on images of shape (2, 3, 8, 8)": [
        partial(wrap, input_shape=(3, 8, 8)),
    ],
    "num_classes": [partial(wrap, num_classes=7)],
    "class_names": [partial(wrap, class_names=("a", "b"))],
    "mean": [
        partial(wrap, mean=[0.5]),
        partial(wrap, mean=0.5, std=0.5),
        partial(wrap, mean=[0.1, 0.2, 0.3], std=[1, 1, 1]),
        partial(wrap, mean=[127.5], std=[0.5]),
        partial(wrap, mean=["a"], std=[0.5]),
        partial(wrap, mean=[float("nan")], std=[0.5]),
        partial(wrap, mean=torch.zeros(1, 3, 1, 1), std=torch.ones(1, 3, 1, 1)),
    ],
    "std": [partial(wrap, mean=[0.5], std=[0.0]), partial(wrap, mean=[0.5], std=[255])],
    "classifier": [
        partial(saved, NET),
        partial(saved, WRAPPED),
        partial(saved, function),
        partial(serialised, NET),
        partial(taught, classifier=function),
    ],
    "measure": [
        partial(held_out, measure="agreement_ce", teacher=NET),
        partial(held_out, measure=AgreementCE, teacher=NET),
    ],
    "teacher": [
        partial(held_out, measure=AgreementCE()),
        partial(held_out, measure=AgreementCE(), teacher=function),
        partial(invert, NET),
        partial(invert, function),
        partial(invert, "teacher"),
        partial(ObjectivePGD, eps=0.1, teacher=function),
    ],
    "labels": [
        partial(invert, labels="per-batch"),
        partial(trainer, labels=Y.numpy()),
        partial(trainer, labels=Y[:3]),
        partial(trainer, labels=Y.float()),
        partial(trainer, labels=Z),
        lambda: trainer(labels=Y + 9, objective=TradesObjective()).step(),
        partial(PGD(eps=0.1), NET, X, Y.numpy()),
        partial(PGD(eps=0.1), NET, X, Y.tolist()),
        partial(evaluate, NET, (X, Y.numpy()), None),
        partial(audit, NET, (X, Y.numpy()), eps=0.1),
        partial(PredictionEntropy(), labels=Y.numpy(), logits=Z),
        partial(PredictionEntropy(), labels=Y[:0], logits=Z[:0]),
        partial(NearDuplicates(), labels=Y, logits=Z, images=X[:3]),
        partial(CutoutSet(), X, Y[:3], draw=np.random.default_rng(0)),
        partial(CutoutSet(), X, Y.numpy(), draw=np.random.default_rng(0)),
    ],
    "partners": [partial(MixupSet(), X, Y, draw=np.random.default_rng(0))],
    "logits": [partial(PredictionEntropy(), labels=Y, logits=z) for z in (Z.numpy(), Z[0], Z[:3])],
    "compat": [partial(TTE, compat="offical"), partial(TTE, compat=None)],
    "padding": [partial(TTE, padding=0.5), partial(TTE(padding=8).wrap(NET), X)],
    "iterations": [lambda: Inversion(WRAPPED, iterations=0)],
    "learning_rate": [
        partial(invert, learning_rate=0),
        partial(invert, learning_rate="0.1"),
        partial(taught, learning_rate=-1),
    ],
    "jitter": [partial(invert, jitter=-1), partial(invert, jitter=1.5)],
    "size": [partial(invert, size=0)],
    "batch": [partial(invert, batches=(-1,)), partial(invert, batches=())],
    "seed": [
        partial(invert, seed=-1),
        partial(invert, seed=None),
        partial(trainer, seed=-3),
        partial(trainer, seed="a"),
        partial(PGD(eps=0.1), NET, X, Y, seed=-1),
        partial(evaluate, NET, (X, Y), PGD(eps=0.1), seed=0.5),
        partial(audit, NET, (X, Y), eps=0.1, seed=-1),
    ],
    "model": [
        *(partial(make_attack(name, eps=0.1), function, X, Y) for name in ("fgsm", "square")),
        partial(make_attack("autoattack", eps=0.1), None, X, Y),
        partial(evaluate, function, (X, Y), None),
        partial(evaluate, type(NET), (X, Y), PGD(eps=0.1)),
        partial(evaluate_slice, function, X, Y, None, seed=0),
        partial(audit, function, (X, Y), eps=0.1),
        partial(TTE().wrap, function),
    ],
    "source": [
        partial(Transfer, eps=0.1, source=function),
        partial(audit, NET, (X, Y), eps=0.1, source=function),
    ],
    "attack": [
        partial(evaluate, NET, (X, Y), "pgd"),
        partial(evaluate, NET, (X, Y), PGD),
        partial(evaluate, NET, (X, Y), function),
    ],
    "images": [
        partial(PGD(eps=0.1), NET, X.numpy(), Y),
        partial(PGD(eps=0.1), NET, X[0], Y[:1]),
        partial(PGD(eps=0.1), NET, [X], Y),
        partial(PGD(eps=0.1), NET, X.to(torch.complex64), Y),
        partial(PGD(eps=0.1), NET, (255 * X).byte(), Y),
        partial(evaluate, NET, (X.numpy(), Y), None),
        partial(evaluate, NET, X, None),
        partial(evaluate, NET, [(X, Y), (X, Y), (X, Y)], None),
        partial(evaluate, NET, torch.utils.data.TensorDataset(X, Y), None),
        partial(audit, NET, X.numpy(), eps=0.1),
        partial(audit, NET, (X[0], Y), eps=0.1),
        partial(trainer, images=X.numpy()),
        partial(trainer, images=255 * X),
        partial(trainer, images=X[0]),
        partial(trainer, images=X[:0], labels=Y[:0], teacher_logits=Z[:0]),
        partial(trainer, images=(255 * X).long()),
        partial(held_out, images=X.numpy()),
        partial(INNER, NET, X.numpy(), generator=np.random.default_rng(0)),
        partial(WRAPPED, X.numpy()),
        partial(WRAPPED, X[0]),
        partial(NearDuplicates(), labels=Y, logits=Z),
        partial(NearDuplicates(), labels=Y, logits=Z, images=X.numpy()),
    ],
    "student": [
        partial(trainer, function),
        partial(trainer, nn.Identity()),
        partial(trainer, frozen=True),
        partial(trainer, plain().half()),
        partial(trainer, nn.Sequential(plain(), nn.Softmax(1))),
        partial(held_out, function),
        partial(held_out, nn.Identity()),
        partial(INNER, function, X, generator=np.random.default_rng(0)),
    ],
    "generator": [partial(INNER, NET, X, generator=0), partial(held_out, generator=lambda i: i)],
    "optimizer": [
        partial(trainer, optimizer=None),
        partial(trainer, optimizer=torch.optim.SGD(NET.parameters(), lr=0.1)),
        partial(GradRefine, None),
    ],
    "teacher_logits": [
        partial(trainer, teacher_logits=Z.numpy()),
        partial(trainer, teacher_logits=Z.softmax(1)),
        partial(trainer, teacher_logits=Z[:, :4]),
        partial(trainer, teacher_logits=Z[:4]),
        partial(trainer, teacher_logits=Y),
    ],
    "objective": [partial(trainer, objective=None), partial(trainer, objective=SoftLabelObjective)],
    "inner": [
        partial(trainer, inner=PGD(eps=0.1)),
        partial(trainer, inner=None),
        partial(trainer, inner=KEPT, augmentations=[Flip()]),
    ],
    "schedule": [partial(trainer, schedule="cosine"), partial(trainer, schedule=Cosine)],
    "average": [partial(trainer, average="ema"), partial(trainer, average=Swa)],
    "epochs": [
        partial(measured_epochs, AgreementCE(), epochs=0, num_holdout=1, num_images=1, passes=1.0),
        partial(trainer, epochs=0),
        partial(trainer, epochs=1.5),
        step_too_far,
        partial(taught, epochs=0),
    ],
    "batch_size": [
        partial(trainer, batch_size=0),
        partial(trainer, OneImageFails(), batch_size=4),
        partial(taught, batch_size=0),
    ],
    "num_batches": [partial(trainer, num_batches=0), partial(trainer, num_batches="20")],
    "batches_per_pass": [partial(trainer, batches_per_pass=0)],
    "tau": [partial(trainer, tau=1.5), partial(trainer, tau="0.5"), partial(trainer, tau=None)],
    "state": [
        lambda: trainer().load_state_dict({}),
        lambda: trainer(inner=KEPT).load_state_dict(trainer().state_dict()),
        lambda: trainer().load_state_dict(None),
        lambda: trainer().load_state_dict(plain().state_dict()),
        lambda: trainer().load_state_dict({**trainer().state_dict(), "student": {}}),
    ],
    "accumulate": [
        lambda: GradRefine(torch.optim.SGD(NET.parameters(), lr=0.1)).step(),
    ],
    "train": [partial(taught, train=(X, Y)), partial(taught, train=X)],
    "validation": [partial(taught, validation=None)],
    "num_steps": [
        partial(InnerMaximization, eps=0.1, num_steps=0.5),
        partial(PGD, eps=0.1, num_steps=0),
    ],
    "slice_size": [
        partial(evaluate, NET, (X, Y), None, slice_size=0),
        partial(audit, NET, (X, Y), eps=0.1, slice_size="all"),
    ],
    "torch.inference_mode()": [
        partial(in_inference_mode, partial(PGD(eps=0.1), NET, X, Y)),
        partial(in_inference_mode, invert),
        partial(in_inference_mode, lambda: trainer().step()),
        partial(in_inference_mode, partial(audit, NET, (X, Y), eps=0.1)),
        partial(in_inference_mode, partial(INNER, NET, X, generator=np.random.default_rng(0))),
    ],
    "no-such-folder": [partial(dfshield.load, "no-such-folder")],
}
