"""Learning rates of the inversion that change: both paths, resumed, and what is refused."""

import copy
import math

import pytest
import torch
from test_inversion import draws_for, plain_iterates

from dfshield.engine.acceleration import Acceleration
from dfshield.errors import InputError
from dfshield.synthesis import DSS, SYNTHESIZERS, BatchedInversion, Inversion, optimise

CPU = torch.device("cpu")
ONE_CYCLE = {"iterations": 8, "schedule": "cosine", "warmup": 0.25, "jitter": 1}


def test_the_rates_rise_and_fall_as_the_schedule_says():
    rates = DSS(learning_rate=0.3, **ONE_CYCLE).learning_rates()
    falling = [0.15 * (1 + math.cos(math.pi * i / 6)) for i in range(6)]
    assert rates == pytest.approx([0.1, 0.2, *falling])


def test_left_out_they_stay_as_they_are_and_stand_in_no_identity():
    assert DSS(iterations=5, learning_rate=0.07).learning_rates() == 5 * [0.07]
    assert SYNTHESIZERS.changed(DSS()) == {}


def of_plain(teacher, draws, rates):
    return optimise(teacher.network, draws, learning_rate=rates, device=CPU)


def of_batched(teacher, draws, rates):
    inversion = BatchedInversion(
        teacher.network,
        groups=1,
        size=5,
        image_shape=teacher.input_shape,
        acceleration=Acceleration(),
    )
    pixels, losses = inversion.optimise([draws], learning_rate=rates)
    return pixels, losses[0]


@pytest.mark.parametrize("path", [of_plain, of_batched])
def test_adam_steps_by_the_rate_of_every_iteration(tiny_teacher, path):
    tiny_teacher.requires_grad_(False)
    draws, rates = draws_for(tiny_teacher, iterations=8), DSS(**ONE_CYCLE).learning_rates()
    pixels, _ = path(tiny_teacher, draws, rates)
    constant, _ = path(tiny_teacher, draws, 0.1)
    iterates, _ = plain_iterates(tiny_teacher.network, draws, rates)
    torch.testing.assert_close(pixels.double(), iterates[-1], atol=2e-3, rtol=0)
    assert (pixels - constant).abs().mean() > 0.02


@pytest.mark.parametrize("acceleration", [Acceleration(), Acceleration("bfloat16")])
@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_pass_that_goes_on_from_a_state_equals_one_that_never_stopped(
    tiny_teacher, acceleration, stop_after
):
    inversion = Inversion(tiny_teacher, acceleration=acceleration, **ONE_CYCLE)
    kept = []

    def keep(done, state):
        if done == stop_after:
            kept.append(copy.deepcopy(state()))

    batches = {"seed": 0, "batches": [2, 3], "size": 4}
    whole = inversion.synthesize_batches(**batches, on_iteration=keep)
    again = inversion.synthesize_batches(**batches, resume=kept[0])
    for one, other in zip(again, whole, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.record == other.record


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "onecycle"}, "schedule"),
        ({"warmup": 1.5}, "warmup"),
        ({"warmup": "much"}, "warmup"),
    ],
)
def test_rates_that_cannot_be_are_refused(options, said):
    with pytest.raises(InputError, match=f"^{said}"):
        DSS(**options)
