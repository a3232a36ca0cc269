"""Classifiers given to torch.jit and torch.export; run by itself, with a folder to save in."""

import io
import sys
import warnings

import torch
from odd_factories import PRECISIONS, STRUCTURES, plain
from torch import nn

import dfshield
from dfshield.classifiers import Classifier, LogProbabilities, build, save

warnings.simplefilter("ignore")  # torch.jit is deprecated, and tells of checks that are not traced
torch.set_num_threads(1)
X = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def loaded(source, shape, **options):
    classifier = build(source, input_shape=shape, num_classes=4, options=options, seed=5)
    with torch.no_grad():
        classifier.network.train()(torch.rand(20, *shape))
    save(classifier.eval(), sys.argv[1])
    return dfshield.load(sys.argv[1])


def saved_and_loaded(scripted):
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def check_a_loaded_one(classifier):
    x = torch.rand(5, *classifier.input_shape)
    wanted = {n: classifier(x[:n]) for n in (5, 2, 1)}
    scripted = torch.jit.script(classifier)
    for each in (scripted, saved_and_loaded(scripted), torch.jit.trace(classifier, x)):
        for n, logits in wanted.items():
            assert torch.equal(each(x[:n]), logits)
    images = {"x": {0: torch.export.Dim("n", min=2)}}
    program = torch.export.export(classifier, (x,), dynamic_shapes=images)
    for n in (5, 2):
        assert torch.equal(program.module()(x[:n]), wanted[n])
    assert isinstance(classifier, Classifier)
    assert not classifier.training


check_a_loaded_one(loaded("dfshield:resnet8", (3, 12, 10), width=4))
check_a_loaded_one(loaded("medmnist:resnet18", (1, 8, 8)))

softmax = LogProbabilities(nn.Sequential(plain(), nn.Softmax(1)))
for net in (plain(), softmax):
    wrapped = Classifier.wrap(net.eval(), input_shape=(1, 8, 8), mean=[0.4], std=[0.3])
    assert torch.equal(torch.jit.script(wrapped)(X), wrapped(X))

for kind in (
    "synchronised",
    "dict",
    "squeezed",
    "sides of length 1",
    "changes its input",
    "half",
    "autocast",
):
    net = {**STRUCTURES, **PRECISIONS}[kind]().eval()
    wrapped = Classifier.wrap(net, input_shape=(1, 8, 8))
    traced = torch.jit.trace(wrapped, X)
    for n in (7, 3):
        assert torch.equal(traced(X[:n]), wrapped(X[:n])), kind
