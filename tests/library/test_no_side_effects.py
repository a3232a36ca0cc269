"""What is given to the library is left as it was, also where a call fails half-way."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "classifiers"))

from odd_factories import plain

from dfshield.attacks import ATTACKS, PGD, make_attack
from dfshield.audit import audit
from dfshield.classifiers import Classifier, build, require_hardenable, save
from dfshield.engine.acceleration import Acceleration
from dfshield.evaluation import evaluate
from dfshield.synthesis import Inversion
from dfshield.training import (
    AdversarialTrainer,
    InnerMaximization,
    SoftLabelObjective,
    holdout_metrics,
    require_deferrable,
    require_trainable,
)

X = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    Z = plain().eval()(X)
Y = Z.argmax(1)
INNER = InnerMaximization(eps=0.1, num_steps=2)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def in_use():
    """A model amid its owner's work: mixed modes, a frozen weight, a gradient, a hook."""
    net = plain().train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[4].bias.grad = torch.full((10,), 0.25)
    net[2].register_forward_hook(lambda *_: None)
    return net


def trace(net):
    """All of a model that a call could change."""
    tensors = {
        name: (id(tensor), tensor.clone(), tensor.requires_grad, tensor.grad)
        for name, tensor in (*net.named_parameters(), *net.named_buffers())
    }
    modules = [
        (type(module), module.training, *(len(getattr(module, hooks)) for hooks in HOOKS))
        for module in net.modules()
    ]
    return tensors, modules


def torch_itself():
    return (
        torch.get_rng_state(),
        str(np.random.get_state()),  # noqa: NPY002
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    return first == second


def invert(net, **options):
    wrapped = Classifier.wrap(net, input_shape=(1, 8, 8), mean=[0.4], std=[0.3])
    Inversion(wrapped, iterations=2, **options).synthesize(seed=0, batch=0, size=4)


def save_one_of_it(net, folder):
    built = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 4})
    built.network.train()
    before = trace(built)
    save(built, folder)
    assert same(trace(built), before)
    Classifier.wrap(net, input_shape=(1, 8, 8)).fingerprint()


def train_from(net):
    """The teacher of a training, whose student is another one."""
    student = plain(1)
    trainer = AdversarialTrainer(
        student,
        images=X,
        labels=Y,
        teacher_logits=Z,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.1),
        objective=SoftLabelObjective(),
        inner=INNER,
        epochs=1,
        batch_size=6,
    )
    trainer.step()
    holdout_metrics(net, X, Z, inner=INNER, generator=np.random.default_rng)


OPTIONS = {
    "a3": {"budget": 10},
    "apgd-ce": {"num_steps": 2},
    "apgd-dlr": {"num_steps": 2},
    "apgd-t": {"num_steps": 2},
    "automated": {"choices": "fgsm,pgd", "trials": 2, "stages": 1},
    "autoattack": {"version": "custom", "attacks": "apgd-ce,square", "num_steps": 2, "queries": 3},
    "boundary": {"num_steps": 2},
    "fab-t": {"num_steps": 2},
    "genattack": {"num_steps": 2},
    "latent": {"num_steps": 2},
    "pgd-unbounded": {"eps": 1, "num_steps": 2},
    "spsa": {"num_steps": 1, "samples": 2},
    "square": {"queries": 3},
}
ENTRIES = {
    **{
        name: lambda net, _, name=name: make_attack(name, **{"eps": 0.1, **OPTIONS.get(name, {})})(
            net, X, Y
        )
        for name in ATTACKS
        if name not in ("pgd-objective", "transfer")
    },
    "pgd-objective": lambda net, _: make_attack("pgd-objective", eps=0.1, teacher=net, num_steps=2)(
        plain(1), X, plain(1).eval()(X).argmax(1)
    ),
    "transfer": lambda net, _: make_attack("transfer", eps=0.1, source=net)(plain(), X, Y),
    "evaluate": lambda net, _: evaluate(net, (X, Y), PGD(eps=0.1, num_steps=2), slice_size=5),
    "audit": lambda net, _: audit(net, (X, Y), eps=0.1, autoattack=False),
    "inversion": lambda net, _: invert(net),
    "inversion, bfloat16": lambda net, _: invert(net, acceleration=Acceleration("bfloat16")),
    "inner": lambda net, _: INNER(net, X, generator=np.random.default_rng(0)),
    "training": lambda net, _: train_from(net),
    "save": lambda net, folder: save_one_of_it(net, folder),
    "checks": lambda net, _: (
        require_trainable(net, X, name="the model"),
        require_deferrable(net, X),
        require_hardenable(Classifier.wrap(net, input_shape=(1, 8, 8))),
    ),
}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry != "audit"])
def test_a_call_leaves_no_trace(entry, gradients, tmp_path):
    net = in_use()
    with torch.set_grad_enabled(gradients):
        before, itself, given = trace(net), torch_itself(), [t.clone() for t in (X, Y, Z)]
        ENTRIES[entry](net, tmp_path)
        assert same(trace(net), before)
        assert same(torch_itself(), itself)
    assert same([X, Y, Z], given)


@pytest.mark.slow
def test_an_audit_leaves_no_trace(tmp_path):
    test_a_call_leaves_no_trace("audit", False, tmp_path)


class Stopped(BaseException):
    """As KeyboardInterrupt is: not an error that anybody catches."""


@pytest.mark.parametrize(("kind", "after"), [(Stopped, 0), (RuntimeError, 3)])
@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry not in ("save", "checks")])
def test_a_call_that_fails_leaves_no_trace(entry, kind, after, tmp_path):
    net, passes = in_use(), []

    def fail(*_):
        passes.append(1)
        if len(passes) > after:
            raise kind("on purpose")

    net[3].register_forward_hook(fail)
    before, itself, given = trace(net), torch_itself(), [t.clone() for t in (X, Y, Z)]
    said = ""
    try:
        ENTRIES[entry](net, tmp_path)
    except (RuntimeError, Stopped, ValueError) as error:
        said = str(error)
    assert "on purpose" in said or len(passes) <= after  # too short a call to fail
    assert same(trace(net), before)
    assert same(torch_itself(), itself)
    assert same([X, Y, Z], given)
