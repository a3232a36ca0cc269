"""A model that cannot be compiled in time; `tests/training/compiled_cases.py` has one that can."""

import pytest
import torch
from torch import nn

from dfshield.attacks import PGD
from dfshield.engine.acceleration import Acceleration
from dfshield.engine.compiled_in_time import CompiledInTime
from dfshield.evaluation import evaluate_slice


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(Acceleration, "compile", lambda *_, **__: refuse)


def test_without_a_compiler_an_evaluation_goes_on_plainly_and_its_result_says_why(no_compiler):
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval()
    x = torch.rand(12, 1, 6, 6, generator=draw)
    with torch.no_grad():
        y = model(x).argmax(1)
    fast = CompiledInTime(
        model,
        image_shape=(1, 6, 6),
        acceleration=Acceleration(compiled=True),
        after={True: 20, False: 20},
    )
    attack = PGD(eps=0.1, num_steps=5)
    plain = evaluate_slice(model, x, y, attack, seed=0)
    for again in (False, True):
        fast.begin()
        found = evaluate_slice(model, x, y, attack, seed=0, attacked=fast)
        assert found.adversarial_margins == plain.adversarial_margins
        assert fast.refused
        if not again:
            (note,) = found.notes
            assert "cannot be compiled here: no C++ compiler" in note
            assert note.endswith("it is attacked as it is")
