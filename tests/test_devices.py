"""Synthesis, training and attacks on a pretended GPU: no devices are mixed, and none waits."""

import copy
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "attacks"))
sys.path.insert(0, str(Path(__file__).parent))
from attack_table import CASES, quick
from torch.utils._python_dispatch import _disable_current_modes as on_the_cpu

from dfshield.engine.acceleration import Acceleration
from dfshield.seeds import RngStream
from dfshield.synthesis import BatchedInversion, CoefficientSampler, draw_batch, optimise
from dfshield.training import (
    OBJECTIVES,
    AdversarialTrainer,
    InnerMaximization,
    holdout_metrics,
)
from pretended_gpu import GPU, MixedDevicesError, OnGpu, PretendedGpu, moved, tensor
from small_classifier import CLASSES, SHAPE, SIZE, classifier, images


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(Acceleration, "autocast", lambda *_: nullcontext())  # knows no such device
    with PretendedGpu() as gpu:
        yield gpu


def draws(batch=0, iterations=4):
    return draw_batch(
        seed=0,
        stream=RngStream.SYNTHESIS,
        batch=batch,
        size=SIZE,
        image_shape=SHAPE,
        num_classes=CLASSES,
        labels="random",
        coefficients=CoefficientSampler(),
        jitter=1,
        iterations=iterations,
    )


# ---------------------------------------------------------------- the pretended GPU itself


def test_it_computes_and_minds_what_a_gpu_would(gpu):
    x = torch.arange(4.0).to(GPU)
    assert gpu.waits == ["elsewhere aten._to_copy.default"]
    with gpu.never_waiting():
        y = (2 * x).relu() + torch.ones(4, device=GPU) * torch.tensor(3.0)
        x.add_(1.0)
        x[torch.zeros(1, dtype=torch.int64, device=GPU)] = 7.0
    assert y.device == GPU
    with pytest.raises(MixedDevicesError):
        x + torch.ones(4)
    for wait in (lambda: float(x.sum()), lambda: x[x > 2], lambda: x.cpu(), lambda: bool(x.any())):
        with pytest.raises(AssertionError), gpu.never_waiting():
            wait()
    assert y.cpu().tolist() == [3.0, 5.0, 7.0, 9.0]
    assert x.cpu().tolist() == [7.0, 2.0, 3.0, 4.0]


def test_gradients_are_those_of_the_cpu(gpu):
    with on_the_cpu():
        plain = classifier()
        x = images().requires_grad_()
        (expected,) = torch.autograd.grad(plain(x).square().sum(), [x])
    there = moved(classifier())
    x = OnGpu(images()).requires_grad_()
    with gpu.never_waiting():
        (found,) = torch.autograd.grad(there(x).square().sum(), [x])
    torch.testing.assert_close(found.cpu(), expected)


# ---------------------------------------------------------------- synthesis


def never_after_the_first(gpu):
    """What is called after each iteration, and lets none after the first wait."""
    noted = []

    def tick(done, state):
        noted.append(len(gpu.waits))

    return noted, tick


def test_no_iteration_of_an_inversion_waits(gpu):
    noted, tick = never_after_the_first(gpu)
    network = moved(classifier()).network.requires_grad_(False)
    pixels, losses = optimise(network, draws(), learning_rate=0.1, device=GPU, on_iteration=tick)
    assert noted == noted[:1] * 4, gpu.waits
    assert pixels.device == losses.device == GPU
    with on_the_cpu():
        plain = classifier().network.requires_grad_(False)
        expected, _ = optimise(plain, draws(), learning_rate=0.1, device=torch.device("cpu"))
    torch.testing.assert_close(pixels.cpu(), expected)


def test_no_iteration_of_batches_in_one_pass_waits(gpu, monkeypatch):
    adam = torch.optim.Adam  # whose fused kernel knows no such device
    monkeypatch.setattr(torch.optim, "Adam", lambda p, **o: adam(p, **(o | {"fused": False})))
    noted, tick = never_after_the_first(gpu)
    network = moved(classifier()).network.requires_grad_(False)
    batched = BatchedInversion(
        network, groups=2, size=SIZE, image_shape=SHAPE, acceleration=Acceleration()
    )
    pixels, _ = batched.optimise([draws(0), draws(1)], learning_rate=0.1, on_iteration=tick)
    assert noted == noted[:1] * 4, gpu.waits
    assert pixels.device == GPU


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", ["gaussian", "uniform"])
@pytest.mark.parametrize("loss", ["kl", "ce", "teacher-kl"])
def test_steps_of_the_inner_maximisation_wait_for_nothing_but_what_l2_asks(gpu, norm, start, loss):
    student, x = moved(classifier()), OnGpu(images())
    given = {"labels": OnGpu(torch.arange(SIZE) % CLASSES), "teacher_logits": student(x).detach()}
    counted = []
    for steps in (1, 5):
        inner = InnerMaximization(eps=0.1, norm=norm, num_steps=steps, loss=loss, start=start)
        before = len(gpu.waits)
        adversarial = inner(student, x, generator=np.random.default_rng(0), **given)
        counted.append(gpu.waits[before:])
    assert adversarial.device == GPU
    more = len(counted[1]) - len(counted[0])
    # l_2 asks at every step whether an image has no gradient, and draws for those.
    assert more == 4 * (norm == "l2"), counted


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_update_mixes_no_devices_and_takes_the_step_of_the_cpu(gpu, objective):
    weights = []
    for place in ("cpu", "gpu"):
        student = classifier().requires_grad_(True)
        x, y = images(4 * SIZE), torch.arange(4 * SIZE) % CLASSES
        with on_the_cpu():
            logits = classifier(1)(x).detach()
        data = [x, y, logits]
        if place == "gpu":
            student, data = moved(student), [OnGpu(tensor) for tensor in data]
        chosen = OBJECTIVES.make(objective)
        trainer = AdversarialTrainer(
            student,
            images=data[0],
            labels=data[1],
            teacher_logits=data[2],
            optimizer=torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9),
            objective=chosen,
            inner=InnerMaximization(eps=0.1, num_steps=2, loss=chosen.inner_loss),
            epochs=2,
            batch_size=SIZE,
            num_batches=2,
        )
        records = [trainer.step() for _ in range(3)]
        measured = holdout_metrics(
            student,
            data[0],
            data[2],
            inner=InnerMaximization(eps=0.1, num_steps=2),
            generator=np.random.default_rng,
        )
        state = {name: tensor.cpu() for name, tensor in student.state_dict().items()}
        weights.append((state, [record.loss for record in records], measured))
    for name, expected in weights[0][0].items():
        torch.testing.assert_close(weights[1][0][name], expected)
    assert weights[1][1] == pytest.approx(weights[0][1])
    assert weights[1][2] == weights[0][2]


# ---------------------------------------------------------------- attacks


# foolbox asks its own wrapper for a device; the parts of AutoAttack are there one by one, in one
# norm, since they are not our code.
ELSEWHERE = {"genattack", "boundary", "autoattack"}
PARTS = {"apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"}
OURS = [(n, norm) for n, norm in CASES if n not in ELSEWHERE and (n not in PARTS or norm == "linf")]


@pytest.mark.parametrize(("name", "norm"), OURS)
def test_an_attack_mixes_no_devices(gpu, name, norm):
    model, x = moved(classifier()), OnGpu(images())
    with torch.no_grad():
        y = OnGpu(model(x).argmax(1).numbers.clone())
    attack = quick(name, norm, other=moved(copy.deepcopy(classifier(2))), eps=0.3)
    x_adv = attack(model, x, y, seed=0)
    assert x_adv.device == GPU
    assert x_adv.shape == x.shape
