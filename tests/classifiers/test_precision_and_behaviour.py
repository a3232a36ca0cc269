"""Classifiers of every precision, and the part of a fingerprint that is behaviour."""

import json
from itertools import product

import odd_factories
import pytest
import torch
from odd_factories import LOGITS, PRECISIONS, PROBABILITIES

from dfshield.classifiers import (
    are_probabilities,
    build,
    load,
    require_hardenable,
    save,
    unseen_batchnorm,
)
from dfshield.errors import ChangedCodeError, InputError

SHAPE = {"input_shape": (1, 8, 8), "num_classes": 10, "mean": (0.5,), "std": (0.25,)}
IMAGES = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def built(kind):
    return build("python:odd_factories:make", options={"kind": kind}, **SHAPE)


@pytest.mark.parametrize("kind", PRECISIONS)
def test_logits_are_float32_and_those_of_the_network(kind):
    logits = built(kind)(IMAGES)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, built("float32")(IMAGES), atol=0.05, rtol=0.05)


CASTS = (None, torch.float16, torch.bfloat16, torch.float64)
# Under autocast PyTorch itself has no BatchNorm for half weights on CPUs.
SAVED = [pair for pair in product(PRECISIONS, CASTS) if pair != ("autocast", torch.float16)]


@pytest.mark.parametrize(("kind", "cast"), SAVED)
def test_saving_then_loading_is_the_identity_for_every_dtype(kind, cast, tmp_path):
    classifier = built(kind)
    if cast is not None:
        classifier.to(cast)
    save(classifier, tmp_path)
    again = load(tmp_path, trust_python=True)
    assert again.fingerprint() == classifier.fingerprint()
    for name, tensor in classifier.state_dict().items():
        assert again.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(again.state_dict()[name], tensor)
    assert torch.equal(again(IMAGES), classifier(IMAGES))
    save(again, tmp_path / "twice")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_weights_of_several_precisions_keep_theirs(tmp_path, monkeypatch):
    def mixed(kind):
        net = odd_factories.plain()
        net[4].register_buffer("table", torch.rand(3, dtype=torch.float64))
        net[4].register_buffer("short", torch.rand(3).bfloat16())
        return net

    monkeypatch.setattr(odd_factories, "make", mixed)
    classifier = built("mixed")
    save(classifier, tmp_path)
    again = load(tmp_path, trust_python=True)
    assert again.network[4].table.dtype == torch.float64
    assert torch.equal(again.network[4].table, classifier.network[4].table)
    assert again.network[4].short.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_refused_for_hardening_and_the_wrapper_is_named(kind):
    classifier = built(kind).float()
    assert are_probabilities(classifier(IMAGES))
    with pytest.raises(InputError, match=r"probabilities.*LogProbabilities") as caught:
        require_hardenable(classifier)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [*LOGITS, "float32", "autocast"])
def test_logits_of_any_sign_are_not_taken_for_probabilities(kind):
    classifier = built(kind)
    assert not are_probabilities(classifier(IMAGES))
    require_hardenable(classifier)


def test_what_is_no_distribution_is_not_taken_for_one():
    for answers in (torch.zeros(4, 10), 5 * torch.eye(10)[[0, 0, 0]], torch.rand(50, 10)):
        assert not are_probabilities(answers)
    assert are_probabilities(torch.eye(10)[[1, 2, 1]])
    assert are_probabilities(torch.full((3, 2), 0.5))


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double", "half that casts"])
def test_weights_that_are_not_float32_are_refused_for_hardening(kind):
    with pytest.raises(InputError, match=r"float32: let the factory return model\.float\(\)"):
        require_hardenable(built(kind))


def changed(monkeypatch, how):
    """Let the factory build the same weights with other code around them."""
    make = odd_factories.make

    class Same(torch.nn.Sequential):
        def forward(self, x):
            return how(super().forward, x, self.training)

    def other(kind):
        net = make(kind)
        return Same(*net)

    monkeypatch.setattr(odd_factories, "make", other)


CHANGES = {
    "scale": lambda net, x, training: 0.99 * net(x),
    "preprocessing": lambda net, x, training: net(x + 0.1),
    "flip": lambda net, x, training: net(x.flip(3)),
    "train mode alone": lambda net, x, training: net(x) * (2.0 if training else 1.0),
    "eval mode alone": lambda net, x, training: net(x).softmax(1) if not training else net(x),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_code_is_another_classifier(change, tmp_path, monkeypatch):
    before = built("float32")
    save(before, tmp_path)
    changed(monkeypatch, CHANGES[change])
    after = built("float32")
    assert after.digest() == before.digest()
    assert after.fingerprint() != before.fingerprint()
    with pytest.raises(ChangedCodeError, match="its code was changed since"):
        load(tmp_path, trust_python=True)


def test_rewritten_code_that_answers_alike_is_the_same_classifier(tmp_path, monkeypatch):
    before = built("float32")
    save(before, tmp_path)
    changed(monkeypatch, lambda net, x, training: net(x * 1.0) + 0.0)
    assert built("float32").fingerprint() == before.fingerprint()
    assert load(tmp_path, trust_python=True).fingerprint() == before.fingerprint()


def test_a_folder_of_an_earlier_version_keeps_its_fingerprint(tmp_path, monkeypatch):
    classifier = built("float32")
    save(classifier, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["behaviour"]
    config |= {"format_version": 1, "fingerprint": classifier.digest()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    changed(monkeypatch, CHANGES["scale"])
    assert load(tmp_path, trust_python=True).fingerprint() == classifier.digest()


def test_training_it_further_makes_another_classifier(tmp_path):
    save(built("float32"), tmp_path)
    classifier = load(tmp_path, trust_python=True)
    before = classifier.fingerprint()
    with torch.no_grad():
        classifier.network[0].weight.add_(0.01)
    assert classifier.fingerprint() != before


def test_observing_leaves_the_network_and_the_generators_alone():
    classifier = built("float32")
    state = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    random = torch.random.get_rng_state()
    classifier.behaviour()
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not classifier.training
    assert all(torch.equal(state[name], t) for name, t in classifier.state_dict().items())


def test_networks_of_dfshield_keep_the_fingerprints_that_they_had():
    classifier = build("dfshield:resnet8", num_classes=10)
    assert classifier.fingerprint() == classifier.digest()


def test_a_batchnorm_that_has_seen_no_batch_is_known():
    classifier = build("dfshield:resnet8", num_classes=10)
    assert len(unseen_batchnorm(classifier)) == 7
    assert unseen_batchnorm(built("float32")) == []


def test_normalisation_that_was_assumed_is_told_and_pixel_scales_are_refused():
    shape = {"input_shape": (1, 8, 8), "num_classes": 10, "options": {"kind": "float32"}}
    source = "python:odd_factories:make"
    assumed = build(source, **shape)
    assert "images in [0, 1] as they are (mean 0, std 1)" in assumed.assumption
    assert torch.equal(assumed.normalise(IMAGES), IMAGES)
    assert build(source, mean=(0.5,), std=(0.25,), **shape).assumption == ""
    assert "[0.4914, 0.4822, 0.4465]" in build("pytorchcv:resnet20_cifar10").assumption
    for mean, std in (((123.7,), (0.25,)), ((0.5,), (57.4,)), ((-0.5,), (0.5,))):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\], the scale of the images"):
            build(source, mean=mean, std=std, **shape)
