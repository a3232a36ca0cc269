"""Compiled passes of models that are attacked; `tests/test_compiled.py` runs it."""

import warnings

import torch

from dfshield.attacks import AutoAttack
from dfshield.classifiers import build
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.frozen_passes import FrozenPasses
from dfshield.evaluation import evaluate_slice
from dfshield.evaluation.slices import robust_images


def test_compiled_autoattack_comes_to_the_verdicts_of_the_plain_one_and_says_nothing_else():
    model = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, mean=[0.5], std=[0.25])
    model.eval()
    passes = FrozenPasses(
        model, image_shape=(1, 8, 8), acceleration=Acceleration(compiled=True), images_per_pass=8
    )
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model(x).argmax(1)
        torch.testing.assert_close(passes(x), model(x), rtol=1e-4, atol=1e-5)
    attack = AutoAttack(
        eps=0.01, version="custom", attacks="apgd-ce,fab-t,square", num_steps=10, queries=50
    )
    plain = evaluate_slice(model, x, y, attack, seed=1)
    attack.leave_broken = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = evaluate_slice(model, x, y, attack, seed=1, attacked=passes)
    assert 0 < robust_images(plain).sum() < 30
    assert robust_images(fast).tolist() == robust_images(plain).tolist()
    assert fast.notes == plain.notes
