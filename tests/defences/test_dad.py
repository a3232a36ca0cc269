"""DAD: detector and correction by their definitions, its gradient, AUC, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

from dfshield.attacks import PGD
from dfshield.classifiers import build
from dfshield.defences import DAD, DEFENCES, Detector, adapt_detector, train_detector
from dfshield.defences.dad_correction import RADII, chosen_radius, low_pass, ssim
from dfshield.defences.dad_detector import pseudo_labels
from dfshield.errors import InputError


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def detector_saying(answer, num_classes, path):
    """The file of a detector that always gives one answer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = Detector(num_classes)
    detector.length.data.zero_()
    detector.bias.data = torch.tensor([0.0, 1.0 if answer else -1.0])
    torch.save(detector.state_dict(), path)
    return str(path)


class Net(nn.Module):
    """A small network with a linear or a convolutional last layer."""

    def __init__(self, channels=1, classes=5, last=nn.Linear):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(channels)
            self.body = nn.Conv2d(channels, 24, 3)
            self.head = last(24, classes) if last is nn.Linear else last(24, classes, 1)

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d((4 * self.body(x)).tanh(), 1)
        flat = pooled.flatten(1) if isinstance(self.head, nn.Linear) else pooled
        return 6 * self.head(flat).flatten(1)


class Sums(nn.Module):
    """A classifier without a layer."""

    def forward(self, x):
        return x.flatten(1)[:, :5]


# ---------------------------------------------------------------- correction


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (2, 7, 9)])
@pytest.mark.parametrize("radius", [2, 6, 14])
def test_low_pass_is_the_disc_of_the_centred_spectrum(shape, radius):
    x = drawn(2, *shape)
    height, width = shape[1:]
    scaled = radius * min(height, width) / 32
    spectrum = np.fft.fftshift(np.fft.fft2(x.numpy()), axes=(2, 3))
    for row in range(height):
        for column in range(width):
            if np.hypot(row - height / 2, column - width / 2) >= scaled:
                spectrum[:, :, row, column] = 0
    expected = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(2, 3))).real
    assert np.allclose(low_pass(x, radius).numpy(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(low_pass(x, 99), x)


def test_ssim_is_its_formula():
    x, other = drawn(3, 2, 11, 11), drawn(3, 2, 11, 11, seed=1)
    places = np.arange(11) - 5
    bell = np.exp(-(places**2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    for image, (one, two) in enumerate(zip(x.numpy(), other.numpy(), strict=True)):
        c1, c2 = (0.01 * one.max()) ** 2, (0.03 * one.max()) ** 2
        found = []
        for a, b in zip(one, two, strict=True):
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * a * a).sum() - ma**2, (weights * b * b).sum() - mb**2
            cov = (weights * a * b).sum() - ma * mb
            value = (2 * ma * mb + c1) * (2 * cov + c2)
            found.append(max(0, value / ((ma**2 + mb**2 + c1) * (va + vb + c2))))
        assert float(ssim(x, other)[image]) == pytest.approx(np.mean(found), abs=1e-12)
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))


def test_the_radius_is_the_largest_before_the_first_that_fails():
    changed = torch.full((4, 7), 0.5)
    similar = torch.tensor([[0.6] * 7, [0.6, 0.6, 0.5, *[0.9] * 4], [0.4, *[0.9] * 6], [0.5] * 7])
    assert [RADII[place] for place in chosen_radius(similar, changed)] == [14, 4, 4, 4]
    assert RADII[chosen_radius(similar[1:2], changed[1:2] + 0.2)] == 14


@pytest.mark.parametrize("last", [nn.Linear, nn.Conv2d])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28)])
def test_what_is_found_attacked_is_answered_by_low_frequencies(shape, last, tmp_path):
    model = Net(shape[0], last=last).eval()
    x = drawn(6, *shape).float().requires_grad_()
    state = torch.random.get_rng_state()
    quiet = DAD(detector=detector_saying(False, 5, tmp_path / "no.pt")).wrap(model)
    assert torch.equal(quiet(x), model(x))
    defended = DAD(detector=detector_saying(True, 5, tmp_path / "yes.pt"), passes=4).wrap(model)
    answers = defended(x)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(answers, defended(x))
    with torch.no_grad():
        by_radius = torch.stack([model(low_pass(x, radius)) for radius in RADII])
        far = (by_radius - answers).abs().amax(2)
    assert (far.amin(0) < 1e-4).all()
    # An image is answered the same by itself.
    torch.testing.assert_close(defended(x[2:3]), answers[2:3], rtol=0, atol=1e-5)
    # The gradient is that of the model at the corrected image.
    (through,) = torch.autograd.grad(answers[:, 0].sum(), [x])
    with torch.no_grad():
        lows = torch.stack([low_pass(x, radius) for radius in RADII])
        corrected = lows[far.argmin(0), torch.arange(len(x))]
    corrected.requires_grad_()
    (there,) = torch.autograd.grad(model(corrected)[:, 0].sum(), [corrected])
    torch.testing.assert_close(through, there, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- detector


def test_pseudo_labels_are_those_of_the_centres():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        detector = Detector(4).eval()
    logits = 5 * drawn(40, 4).float()
    with torch.no_grad():
        features = detector.features(logits).numpy().astype(float)
        shares = detector(logits).softmax(1).numpy().astype(float)
    features = np.c_[features, np.ones(40)]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for _ in range(2):
        centres = shares.T @ features / (1e-8 + shares.sum(0)[:, None])
        cosine = features @ centres.T / np.linalg.norm(centres, axis=1)
        shares = np.eye(2)[cosine.argmax(1)]
    assert pseudo_labels(detector, logits).tolist() == shares.argmax(1).tolist()


def test_training_and_adaptation_depend_on_the_seed_alone_and_keep_the_last_layer():
    clean, attacked = 4 * drawn(130, 3).float(), 4 * drawn(120, 3, seed=1).float() + 2
    state = torch.random.get_rng_state()

    def made(seed):
        detector = train_detector(clean, attacked, seed=seed, epochs=12, batch_size=20)
        before = {key: value.clone() for key, value in detector.state_dict().items()}
        adapted = adapt_detector(detector, torch.cat([clean, attacked]), seed=seed, epochs=2)
        after = detector.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)
        return detector, adapted

    detector, adapted = made(3)
    torch.manual_seed(9)
    for one, other in zip((detector, adapted), made(3), strict=True):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
    assert not torch.equal(made(4)[0].first.weight, detector.first.weight)
    torch.random.set_rng_state(state)
    assert torch.equal(adapted.direction, detector.direction)
    assert torch.equal(adapted.length, detector.length)
    assert torch.equal(adapted.bias, detector.bias)
    assert not torch.equal(adapted.first.weight, detector.first.weight)
    assert (bool(detector.adapted), bool(adapted.adapted)) == (False, True)
    with torch.no_grad():
        right = (detector(clean).argmax(1) == 0).sum() + (detector(attacked).argmax(1) == 1).sum()
    assert right > 0.8 * 250


def fitted(x, y):
    """A small network trained on images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(4):
            for batch in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(x[batch]), y[batch]).backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


def pool(x, y, eps, *, trained):
    """Logits of images that a network gets right, clean and under PGD; it is trained on others."""
    net = fitted(x[:trained], y[:trained])
    x, y = x[-500:], y[-500:]
    with torch.no_grad():
        right = net(x).argmax(1) == y
        x, y = x[right], y[right]
        return net(x), net(PGD(eps=eps, num_steps=20)(net, x, y))


def test_it_finds_pgd_images_of_digits_in_its_own_leaky_setting():
    """Source: ten textures. Target: scikit-learn's digits, and their test logits, unlabelled.

    Under an attack that goes far beyond the boundary, as one on images of 8x8 pixels does at 0.6;
    at 0.3 digits that are just over it have the logits of clean ones, and no detector finds them.
    """
    labels = torch.arange(600) % 10
    textures = 0.3 + 0.4 * drawn(10, 1, 8, 8, seed=5).float()[labels]
    noise = torch.randn(600, 1, 8, 8, generator=torch.Generator().manual_seed(6))
    source = (textures + 0.15 * noise).clamp(0, 1)
    detector = train_detector(*pool(source, labels, 0.3, trained=600), seed=0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy(digits.images[order]).float().unsqueeze(1) / 16
    y = torch.from_numpy(digits.target[order]).long()
    clean, attacked = pool(x, y, 0.6, trained=1200)
    logits = torch.cat([clean, attacked])
    adapted = adapt_detector(detector, logits, seed=0)
    with torch.no_grad():
        scores = adapted(logits).softmax(1)[:, 1]
    truth = np.repeat([0, 1], [len(clean), len(attacked)])
    assert roc_auc_score(truth, scores.numpy()) >= 0.9


# ---------------------------------------------------------------- what is said and refused


def test_what_results_have_to_say(tmp_path):
    path = tmp_path / "detector.pt"
    defence = DAD(detector=detector_saying(True, 5, path))
    assert not defence.leaks
    (said,) = defence.remarks(None)
    assert "was not adapted" in said
    adapted = adapt_detector(defence.network, drawn(20, 5).float(), epochs=1)
    torch.save(adapted.state_dict(), path)
    again = DAD(detector=str(path))
    assert again.leaks
    leak, through = again.remarks(PGD(eps=0.1))
    assert "test set leaks into the defence" in leak
    assert "BPDA" in through
    assert again.contents() != defence.contents()


def test_the_detector_stays_in_eval_mode(tmp_path):
    defended = DAD(detector=detector_saying(True, 5, tmp_path / "d.pt")).wrap(Net().train())
    assert defended.training
    defended.train()
    assert not defended.detector.training
    assert not any(parameter.requires_grad for parameter in defended.detector.parameters())


def test_other_class_counts_and_files_are_refused_in_one_line(tmp_path):
    path = detector_saying(True, 5, tmp_path / "d.pt")
    classifier = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=4)
    with pytest.raises(InputError, match=r"^detector: it takes logits of 5 classes, but .* has 4"):
        DAD(detector=path).wrap(classifier)
    with pytest.raises(InputError, match=r"^detector: it takes logits of 5 classes"):
        DAD(detector=path).wrap(Net(classes=3))(torch.rand(2, 1, 8, 8))
    with pytest.raises(InputError, match=r"^dad: no linear or convolutional layer"):
        DAD(detector=path).wrap(Sums())(torch.rand(2, 1, 8, 8))
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    for options, said in [
        ({"detector": str(tmp_path / "none.pt")}, "detector: .*no such weights file"),
        ({"detector": str(tmp_path / "net.pt")}, "detector: .*no detector of dad"),
        ({"detector": path, "passes": 0}, "passes: 0 must be"),
        ({"detector": path, "dropout": 1.0}, "dropout: 1.0 must be"),
        ({}, "detector: is missing"),
    ]:
        with pytest.raises(InputError, match=f"^{said}") as caught:
            DEFENCES.make("dad", **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^logits: clean ones"):
        train_detector(torch.rand(5, 3), torch.rand(5, 4))
