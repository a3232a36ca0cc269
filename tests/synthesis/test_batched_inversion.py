"""The fast path of the inversion: against the plain one, in shared passes, resumed."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from dfshield.engine.acceleration import Acceleration
from dfshield.seeds import RngStream
from dfshield.synthesis import BatchedInversion, CoefficientSampler, Inversion, draw_batch, optimise
from dfshield.synthesis.batched import GroupStatistics
from dfshield.synthesis.dss import ALPHAS

CPU = torch.device("cpu")


def draws_of(teacher, *, batch=0, size=6, iterations=12):
    return draw_batch(
        seed=5,
        stream=RngStream.SYNTHESIS,
        batch=batch,
        size=size,
        image_shape=teacher.input_shape,
        num_classes=teacher.num_classes,
        labels="random",
        coefficients=CoefficientSampler(rule="paper"),
        jitter=2,
        iterations=iterations,
    )


def batched(teacher, acceleration, *, groups=1, size=6):
    return BatchedInversion(
        teacher.network,
        groups=groups,
        size=size,
        image_shape=teacher.input_shape,
        acceleration=acceleration,
    )


def trace(run):
    """Return the losses after every iteration of `run(on_iteration)`, and the last pixels."""
    losses = []
    pixels, _ = run(lambda _, state: losses.append(state().losses.clone()))
    return torch.stack(losses), pixels


def check_losses_against_the_plain_path(teacher, acceleration):
    draws = draws_of(teacher, iterations=100)
    plain, _ = trace(
        lambda on: optimise(teacher.network, draws, learning_rate=0.1, device=CPU, on_iteration=on)
    )
    inversion = batched(teacher, acceleration)
    fast, _ = trace(lambda on: inversion.optimise([draws], learning_rate=0.1, on_iteration=on))
    for iteration, tolerance in ((1, 1e-5), (10, 1e-4), (100, 2e-2)):
        torch.testing.assert_close(
            fast[iteration - 1, 0], plain[iteration - 1], rtol=tolerance, atol=tolerance
        )


def test_losses_are_those_of_the_plain_path(teacher):
    check_losses_against_the_plain_path(teacher, Acceleration())


def check_batches_in_one_pass(teacher, acceleration):
    draws = [draws_of(teacher, batch=batch) for batch in range(3)]
    assert len({d.coefficients for d in draws}) == 3
    assert len({tuple(d.shifts[0]) for d in draws}) > 1
    pixels, losses = batched(teacher, acceleration, groups=3).optimise(draws, learning_rate=0.1)
    alone = batched(teacher, Acceleration())
    for index, own in enumerate(draws):
        by_itself, its_losses = alone.optimise([own], learning_rate=0.1)
        torch.testing.assert_close(losses[index], its_losses[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pixels[6 * index :][:6], by_itself, rtol=0, atol=2e-3)


def test_a_batch_gets_in_a_shared_pass_what_it_gets_alone(teacher):
    check_batches_in_one_pass(teacher, Acceleration())


def check_going_on(teacher, acceleration):
    draws = [draws_of(teacher, batch=batch) for batch in range(2)]
    kept = []

    def keep(done, state):
        if done == 7:
            now = state()
            kept.append(
                type(now)(
                    done,
                    now.pixels.clone(),
                    {
                        **now.optimizer,
                        "state": {
                            k: {n: t.clone() for n, t in v.items()}
                            for k, v in now.optimizer["state"].items()
                        },
                    },
                    now.losses.clone(),
                )
            )

    whole, losses = batched(teacher, acceleration, groups=2).optimise(
        draws, learning_rate=0.1, on_iteration=keep
    )
    again, its_losses = batched(teacher, acceleration, groups=2).optimise(
        draws, learning_rate=0.1, resume=kept[0]
    )
    assert torch.equal(again, whole)
    assert torch.equal(its_losses, losses)


def test_going_on_from_a_state_gives_the_same_bytes(teacher):
    check_going_on(teacher, Acceleration("bfloat16"))


def test_bfloat16_ends_where_float32_ends(teacher):
    draws = draws_of(teacher, size=32, iterations=150)
    ends = [
        batched(teacher, Acceleration(precision), size=32).optimise([draws], learning_rate=0.1)
        for precision in ("float32", "bfloat16")
    ]
    (_, exact), (_, rounded) = ends
    torch.testing.assert_close(rounded[:, 3], exact[:, 3], rtol=0.1, atol=0)


def test_a_single_pass_is_safe_where_means_are_large():
    layer = nn.BatchNorm2d(3).eval()
    layer.running_mean.fill_(1000.0)
    layer.running_var.fill_(0.01)
    features = 1000.0 + 0.1 * torch.randn(8, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(layer)
    statistics = GroupStatistics(network, groups=2)
    network(features)
    measured = statistics.loss()
    apart = features.double().view(2, 4, 3, 6, 5)
    variance, mean = torch.var_mean(apart, dim=(1, 3, 4), correction=0)
    expected = (mean - 1000.0).norm(dim=1) + (variance - layer.running_var.double()).norm(dim=1)
    torch.testing.assert_close(measured.double(), expected, rtol=1e-4, atol=0)


def test_passes_of_several_batches_give_each_its_own_images(teacher):
    inversion = Inversion(teacher, iterations=8)
    made = inversion.synthesize_batches(seed=1, batches=[2, 3], size=5)
    for batch, got in zip((2, 3), made, strict=True):
        alone = inversion.synthesize(seed=1, batch=batch, size=5)
        assert torch.equal(got.labels, alone.labels)
        for alpha in ALPHAS:
            assert got.record[alpha] == alone.record[alpha]
        torch.testing.assert_close(got.images, alone.images, rtol=0, atol=2e-3)


@pytest.mark.slow
def test_without_a_compiler_it_is_refused_in_one_line(tmp_path):
    script = (
        "from dfshield.engine.acceleration import Acceleration\n"
        "from torch import nn\n"
        "from dfshield.classifiers import Classifier\n"
        "from dfshield.errors import InputError\n"
        "from dfshield.synthesis import Inversion\n"
        "layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)\n"
        "network = nn.Sequential(*layers)\n"
        "teacher = Classifier.wrap(network, input_shape=(1, 8, 8), mean=[0.5], std=[0.5])\n"
        "fast = Inversion(teacher, iterations=3, acceleration=Acceleration(compiled=True))\n"
        "try:\n"
        "    fast.synthesize(seed=0, batch=0, size=4)\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("the inversion of this classifier cannot be compiled here: ")
    assert "install one" in line
