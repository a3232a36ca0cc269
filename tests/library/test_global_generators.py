"""Global random number generators are left alone, and names that are unknown refused.

In processes of their own: the shape checks of the test suite draw from Python's generator, and
refuse names themselves.
"""

import os
import subprocess
import sys

import pytest

AROUND = """
import random
import numpy, torch
from dfshield.classifiers import build
from dfshield.errors import InputError

torch.set_num_threads(1)
network = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options={"width": 4})
random.seed(1), numpy.random.seed(2), torch.manual_seed(3)

def states():
    return random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()

def refused(key, use):
    try:
        use()
    except InputError as error:
        assert key in str(error)
    else:
        raise AssertionError(key)
"""
SYNTHESIS = """
from dfshield.synthesis import CoefficientSampler, Inversion

before = states()
for labels in ("per_batch", "random", "balanced"):
    Inversion(network, iterations=2, labels=labels).synthesize(seed=0, batch=1, size=4)
assert states() == before

refused("labels", lambda: Inversion(network, labels="per-batch"))
refused("rule", lambda: CoefficientSampler(rule="Paper"))
"""
TRAINING = """
from dfshield.datasets import load_images
from dfshield.training import (
    AdversarialTrainer, InnerMaximization, SoftLabelObjective, holdout_metrics, train_supervised
)

digits = load_images("digits", split="val")
images, labels = digits.tensors(slice(0, 40))

before = states()
train_supervised(network, digits, digits, epochs=1)
logits = torch.zeros(40, 10)
for norm in ("linf", "l2"):
    inner = InnerMaximization(eps=0.1, norm=norm, num_steps=2)
    AdversarialTrainer(
        network, images=images, labels=labels, teacher_logits=logits, inner=inner, epochs=1,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1), objective=SoftLabelObjective(),
        batch_size=10, num_batches=2,
    ).step()
    holdout_metrics(network, images, logits, inner=inner, generator=numpy.random.default_rng)
assert states() == before

refused("norm", lambda: InnerMaximization(eps=0.1, norm="Linf"))
refused("reduction", lambda: SoftLabelObjective(reduction="sum"))
"""


@pytest.mark.parametrize("work", [SYNTHESIS, TRAINING], ids=["synthesis", "training"])
def test_global_generators_are_untouched_and_unknown_names_refused(work):
    subprocess.run(
        [sys.executable, "-c", AROUND + work],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
