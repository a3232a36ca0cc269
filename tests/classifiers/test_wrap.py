"""A module of any origin as a Classifier, and a Classifier as what torch compiles and exports."""

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from odd_factories import LOGITS, STRUCTURES, Returning, plain

import dfshield
from dfshield.classifiers import Classifier, build, save
from dfshield.errors import InputError

X = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(3))
SHAPE = (1, 8, 8)


def test_a_wrapped_module_is_given_normalised_images():
    net = plain().eval()
    classifier = Classifier.wrap(
        net, input_shape=SHAPE, mean=[0.4], std=[0.25], class_names=tuple("abcdefghij")
    )
    assert torch.equal(classifier(X), net((X - 0.4) / 0.25))
    assert classifier.input_shape == SHAPE
    assert classifier.num_classes == 10
    assert classifier.class_names == tuple("abcdefghij")
    assert classifier.assumption == ""


def test_without_a_normalisation_images_go_in_as_they_are_and_that_is_said():
    net = plain().eval()
    classifier = Classifier.wrap(net, input_shape=torch.Size(SHAPE))
    assert torch.equal(classifier(X), net(X))
    assert "images in [0, 1] as they are" in classifier.assumption


def test_the_module_is_no_copy_and_stays_as_it_is():
    net = plain().train()
    net[1].eval()
    state, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    classifier = Classifier.wrap(net, input_shape=SHAPE)
    assert classifier.network is net
    assert [m.training for m in net.modules()] == modes
    assert classifier.training
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    with torch.no_grad():
        net[4].bias[0] += 100
    assert (classifier.eval()(X).argmax(1) == 0).all()


@pytest.mark.parametrize("kind", [*STRUCTURES, *LOGITS])
def test_every_structure_and_name_is_wrapped(kind):
    net = {**STRUCTURES, **LOGITS}[kind]().eval()
    classifier = Classifier.wrap(net, input_shape=SHAPE)
    assert classifier(X).shape == (7, 10)
    assert classifier(X[:1]).shape == (1, 10)
    assert "_kept" not in dict(net.named_modules())


def test_the_fingerprint_tells_weights_classes_of_code_and_behaviour_apart():
    def fingerprint(net):
        return Classifier.wrap(net.eval(), input_shape=SHAPE).fingerprint()

    different = [
        plain(),
        plain(1),
        Returning(lambda z: z),
        Returning(lambda z: 2 * z),  # same class, same weights, other code
        Returning(lambda z: (z, z)),
    ]
    found = [fingerprint(net) for net in different]
    assert len(set(found)) == 4  # the last is the same function as the third
    assert found == [fingerprint(net) for net in different]


def test_saving_what_cannot_be_built_again_says_what_to_do(tmp_path):
    wrapped = Classifier.wrap(plain(), input_shape=SHAPE)
    with pytest.raises(InputError, match=r"build\(.python:MODULE:FUNCTION.*load_state_dict"):
        save(wrapped, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_it_says_to_do_works(tmp_path):
    net = plain(3).eval()
    built = build(
        "python:odd_factories:plain", input_shape=SHAPE, num_classes=10, mean=[0.4], std=[0.3]
    )
    built.network.load_state_dict(net.state_dict())
    save(built, tmp_path)
    wrapped = Classifier.wrap(net, input_shape=SHAPE, mean=[0.4], std=[0.3])
    assert torch.equal(dfshield.load(tmp_path, trust_python=True)(X), wrapped(X))


@pytest.mark.slow
def test_a_classifier_is_scripted_traced_and_exported(tmp_path):
    """In a process of its own: torch.jit cannot read what the shape checks have made of it."""
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("exporting.py")), str(tmp_path)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_loaded_classifier_is_copied_and_pickled(tmp_path):
    save(
        build("dfshield:resnet8", input_shape=SHAPE, num_classes=10, options={"width": 4}), tmp_path
    )
    classifier = dfshield.load(tmp_path)
    buffer = io.BytesIO()
    torch.save(classifier, buffer)
    buffer.seek(0)
    for again in (copy.deepcopy(classifier), torch.load(buffer, weights_only=False)):
        assert torch.equal(again(X), classifier(X))
        assert again.fingerprint() == classifier.fingerprint()
