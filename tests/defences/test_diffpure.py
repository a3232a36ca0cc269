"""DiffPure: its steps in float64, its gradient, what it does to digits, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfshield.attacks import PGD, AutoAttack
from dfshield.classifiers import build
from dfshield.datasets import load_images
from dfshield.defences import DEFENCES, DiffPure, ScoreNetwork, adaptation, train_score
from dfshield.defences.diffusion import END, diffused, kept, purified, reverse_step
from dfshield.errors import InputError
from dfshield.evaluation import evaluate
from dfshield.seeds import torch_generators

CPU = torch.device("cpu")


def network(channels=1, width=4, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ScoreNetwork(channels, width).eval()


def file_of(score, path):
    save_file(score.state_dict(), path)
    return str(path)


class Linear(nn.Module):
    """A classifier of three classes, for any channels and size."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        mean = self.scale * x.mean((2, 3))
        return torch.stack([mean.sum(1), (x**2).mean((1, 2, 3)), x[:, 0, 0, 0]], 1)


@pytest.fixture(scope="module")
def trained():
    x, _ = load_images("digits", split="train").tensors()
    return train_score(x[:600], width=16, epochs=12, seed=0)


def test_the_way_back_is_an_euler_loop_in_float64():
    score, draw = network(2).double(), np.random.default_rng(0)
    x = draw.uniform(-1, 1, (2, 2, 5, 6))
    noises = draw.standard_normal((99, *x.shape))

    def rate(t):
        return 0.1 + 19.9 * t

    def left(t):  # abar by a sum over the rate, not its formula
        grid = np.linspace(0, t, 20_001)
        return np.exp(-np.trapezoid(0.1 + 19.9 * grid, grid))

    t, step, number = 0.053, 0.01, 0
    at = math.sqrt(left(t)) * x + math.sqrt(1 - left(t)) * noises[0]
    while t > 1e-5 + 1e-12:
        number, size = number + 1, min(step, t - 1e-5)
        with torch.no_grad():
            seen = score(torch.from_numpy(at), torch.full((2,), t, dtype=torch.float64)).numpy()
        drift = -0.5 * rate(t) * at - rate(t) * (-seen / math.sqrt(1 - left(t)))
        at = at - drift * size + math.sqrt(rate(t) * size) * noises[number]
        t -= size
    assert number == 6  # five whole steps, and a shorter one
    given = torch.from_numpy(x)
    found = purified(given, 0.053, 0.01, score, lambda n: torch.from_numpy(noises[n]))
    torch.testing.assert_close(found, torch.from_numpy(at), rtol=1e-8, atol=1e-8)
    assert kept(0) == 1
    assert torch.equal(diffused(given, 0, torch.from_numpy(noises[0])), given)


def test_a_step_with_the_true_score_keeps_a_gaussian():
    """Of images that are all 0, the score at a time is known; noise goes as it came."""
    t, step = 0.4, 0.001
    draw = torch.Generator().manual_seed(0)
    x = math.sqrt(1 - kept(t)) * torch.randn(1, 1, 200, 200, generator=draw, dtype=torch.float64)
    while t > 0.2:
        noise = torch.randn(x.shape, generator=draw, dtype=torch.float64)
        x = reverse_step(x, t, step, lambda y, at: y / math.sqrt(1 - kept(float(at[0]))), noise)
        t -= step
    assert float(x.std()) == pytest.approx(math.sqrt(1 - kept(t)), rel=0.02)


def test_the_gradient_goes_through_all_steps(tmp_path):
    defence = DiffPure(score=file_of(network(), tmp_path / "s.safetensors"), t=0.04, step=0.01)
    defended = defence.wrap(Linear().double()).double()
    x = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def logits(x):
        with torch_generators(3, CPU):
            return defended(x)

    assert torch.autograd.gradcheck(logits, [x.requires_grad_()])
    # The steps are computed again on the way back: with the same noise, and no generator moves.
    state = torch.random.get_rng_state()
    whole = torch.autograd.grad(logits(x)[:, 1].sum(), [x])[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(torch.autograd.grad(logits(x)[:, 1].sum(), [x])[0], whole)


def test_memory_holds_one_image_a_step(tmp_path):
    """What the graph keeps grows by the images of a step, not by what is inside the network."""
    score, x = network(width=16), torch.rand(2, 1, 8, 8, requires_grad=True)
    sizes = []
    for steps in (4, 12):
        held = {}

        def hold(tensor, held=held):
            held[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            purified(x, END + steps * 0.001, 0.001, score, lambda n: torch.zeros_like(x))
        sizes.append(sum(held.values()))
    assert sizes[1] - sizes[0] <= 8 * 4 * x.numel()  # a step inside has over 16 times as many


def test_it_takes_noise_out_of_digits(trained):
    x, _ = load_images("digits").tensors(slice(0, 60))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    spoilt = diffused(2 * x - 1, 0.1, noise)
    with torch.no_grad():
        pure = purified(2 * x - 1, 0.1, 0.01, trained, lambda n: noise if n == 0 else 0 * noise)
    error = [(each - (2 * x - 1)).pow(2).mean() for each in (pure, spoilt)]
    assert error[0] < 0.7 * error[1]
    again = train_score(load_images("digits", split="train").tensors()[0][:40], width=4, epochs=1)
    state = torch.random.get_rng_state()
    same = train_score(load_images("digits", split="train").tensors()[0][:40], width=4, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, again.state_dict().values(), same.state_dict().values()))


def test_it_draws_anew_and_slices_repeat_themselves(trained, tmp_path):
    defence = DiffPure(score=file_of(trained, tmp_path / "s.safetensors"), t=0.02, step=0.01)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    defended, images = defence.wrap(net), load_images("digits").stratified(12, seed=0)
    results = [evaluate(defended, images, PGD(eps=0.1, num_steps=2, eot=2)) for _ in range(2)]
    assert results[0].randomised
    assert results[0].prediction_histogram == results[1].prediction_histogram
    x = images.tensors(slice(0, 4))[0]
    with torch.no_grad():
        assert not torch.equal(defended(x), defended(x))
    assert not adaptation(defence, AutoAttack(eps=0.1)).adaptive
    assert adaptation(defence, AutoAttack(eps=0.1, version="rand")).adaptive


def test_what_is_no_score_network_is_refused_in_one_line(tmp_path):
    path = file_of(network(), tmp_path / "s.safetensors")
    classifier = build("dfshield:resnet8", input_shape=(3, 8, 8), num_classes=4)
    with pytest.raises(InputError, match=r"^score: it denoises images of 1 channels, but these"):
        DiffPure(score=path).wrap(classifier)
    with pytest.raises(InputError, match=r"^score: it denoises images of 1 channels, but these"):
        DiffPure(score=path).wrap(Linear())(torch.rand(2, 3, 8, 8))
    torch.save(build("dfshield:resnet8", num_classes=3, input_shape=(1, 8, 8)).state_dict(), path)
    other = network().state_dict()
    del other["head.weight"]
    torch.save(other, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for options, said in [
        ({"score": str(tmp_path / "none.pt")}, "score: .*no such weights file"),
        ({"score": path}, "score: .*holds no score network of dfshield"),
        ({"score": str(tmp_path / "other.pt")}, "score: .*head.weight"),
        ({"score": str(tmp_path / "text.pt")}, "score: "),
        ({"score": path, "t": 0}, "t: 0 must be"),
        ({"score": path, "t": 1.5}, "t: 1.5 must be"),
        ({"score": path, "step": 0}, "step: 0 must be"),
        ({}, "score: is missing"),
    ]:
        with pytest.raises(InputError, match=f"^{said}") as caught:
            DEFENCES.make("diffpure", **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^images, width"):
        train_score(torch.rand(2, 1, 8, 8), width=6)


def test_the_fingerprint_stands_for_the_file(tmp_path):
    first = DiffPure(score=file_of(network(), tmp_path / "a.safetensors"))
    moved = DiffPure(score=file_of(network(), tmp_path / "b.safetensors"))
    other = DiffPure(score=file_of(network(seed=1), tmp_path / "c.safetensors"))
    assert first.contents() == moved.contents() != other.contents()
