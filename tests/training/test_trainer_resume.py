"""A training goes on from its state, whatever it is made of, to the bit."""

import pytest
import torch
from small_trainer import assert_equal_to_the_bit, full_state, make_trainer

from dfshield.schedules import Cosine, Piecewise
from dfshield.seeds import RngStream, generator
from dfshield.training import OBJECTIVES, InnerMaximization
from dfshield.training.augmentations import Crop, Cutmix, Cutout, Flip
from dfshield.training.averages import Ema, Swa


def of_objective(name, norm):
    """Return the arguments of a training with an objective and its own inner maximisation."""
    objective = OBJECTIVES.make(name)
    loss, start = objective.inner_loss, objective.inner_start
    inner = InnerMaximization(eps=0.1, norm=norm, num_steps=2, loss=loss, start=start)
    return {"objective": objective, "inner": inner, "labels": torch.arange(50) % 4}


KEPT = InnerMaximization(eps=0.5, norm="l2", num_steps=1, start="kept")
GROWING = InnerMaximization(eps=0.5, norm="l2", num_steps=3, first_steps=1)


@pytest.mark.parametrize(
    ("objective", "norm", "ingredients"),
    [
        ("soft-label", "l2", {}),
        ("soft-label", "l2", {"schedule": Cosine(warmup=0.4), "average": Ema(decay=0.8)}),
        ("soft-label", "l2", {"schedule": Piecewise(), "average": Swa(start=1)}),
        ("soft-label", "l2", {"weight_perturbation": 0.05}),
        ("soft-label", "l2", {"inner": GROWING}),
        ("soft-label", "l2", {"inner": KEPT}),
        ("trades", "linf", {"augmentations": [Flip(), Crop(padding=2), Cutout(size=3), Cutmix()]}),
        *((name, "linf", {}) for name in OBJECTIVES),
    ],
)
def test_goes_on_from_every_update_boundary_bit_for_bit(
    make_student, images, objective, norm, ingredients
):
    changes = {**of_objective(objective, norm), **ingredients, "teacher": make_student(seed=3)}
    whole = make_trainer(make_student(), images, **changes)
    states, records = [], []
    while not whole.done:
        states.append(full_state(whole))
        records.append(whole.step())
    assert len(states) == 6  # three updates in each of two epochs
    states.append(full_state(whole))
    for boundary, state in enumerate(states[:-1]):
        resumed, expected = (
            make_trainer(make_student(seed=77), images, **changes) for _ in range(2)
        )
        resumed.load_state_dict(state)
        assert resumed.step() == records[boundary]
        expected.load_state_dict(states[boundary + 1])
        assert_equal_to_the_bit(resumed, expected)


def test_an_attack_that_grows_is_that_of_each_update(make_student, images):
    """Each update is what a training with the attack of its place alone would have done."""
    grown = make_trainer(make_student(), images, inner=GROWING)
    for steps in (1, 1, 2, 2, 3, 3):
        fixed = InnerMaximization(eps=0.5, norm="l2", num_steps=steps)
        alone = make_trainer(make_student(seed=77), images, inner=fixed)
        alone.load_state_dict(full_state(grown))
        assert grown.step() == alone.step()
        assert_equal_to_the_bit(grown, alone)


def test_kept_attacks_begin_where_those_of_the_epoch_before_ended(make_student, images):
    inner = InnerMaximization(eps=0.1, num_steps=1, step_size=0.05, start="kept")
    images = images.double()
    trainer = make_trainer(make_student().double(), images, inner=inner, num_batches=1)
    kept = torch.zeros_like(images, dtype=torch.float16)
    for epoch in range(2):
        order = torch.from_numpy(generator(5, RngStream.TRAINING, epoch).permutation(50))
        for batch, rows in enumerate(order.split(8)):
            (found,) = inner.perturb_batches(
                trainer.student,
                [images[rows]],
                generators=[generator(5, RngStream.TRAINING, epoch, batch)],
                kept=kept[rows].float(),
            )
            kept[rows] = (found - images[rows]).half()
            trainer.step()
            assert torch.equal(trainer.state_dict()["perturbations"], kept)
    assert (kept.abs() > 0.06).double().mean() > 0.1  # out of reach of one step


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_images_as_stored_train_as_their_floats_do(make_student, images, dtype):
    stored = (255 * images).round().to(dtype) if dtype == torch.uint8 else images.to(dtype)
    floats = stored.float() / 255 if dtype == torch.uint8 else stored.float()
    logits = torch.randn(len(images), 4, generator=torch.Generator().manual_seed(9))
    trainer, other = (
        make_trainer(make_student(), x, teacher_logits=logits) for x in (stored, floats)
    )
    assert [trainer.step() for _ in range(2)] == [other.step() for _ in range(2)]
    assert_equal_to_the_bit(trainer, other)
