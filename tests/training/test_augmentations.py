"""Augmentations against loops over pixels, the teacher's answers to them, and what is refused."""

import numpy as np
import pytest
import torch
from small_trainer import logits_of, make_trainer
from torch import nn

from dfshield.errors import InputError
from dfshield.training.augmentations import AUGMENTATIONS, Crop, Cutmix, Cutout, Flip
from dfshield.training.augmenting import Augmenter
from dfshield.training.image_batches import ImageBatch


@pytest.fixture
def pixels():
    """Forty images of 2x5x7, no pixel 0."""
    return 0.1 + 0.9 * torch.rand(40, 2, 5, 7, generator=torch.Generator().manual_seed(0))


def applied(augmentation, pixels, labels=None, seed=0):
    before = pixels.clone()
    labels = torch.arange(len(pixels)) if labels is None else labels
    changed = augmentation(pixels, labels, generator=np.random.default_rng(seed))
    assert torch.equal(pixels, before)
    assert changed[0].shape == pixels.shape
    return changed


def test_flip_mirrors_whole_images(pixels):
    flipped, labels = applied(Flip(), pixels)
    mirrored = [torch.equal(f, p.flip(2)) for f, p in zip(flipped, pixels, strict=True)]
    same = [torch.equal(f, p) for f, p in zip(flipped, pixels, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32
    assert torch.equal(labels, torch.arange(40))
    assert torch.equal(applied(Flip(probability=1), pixels)[0], pixels.flip(3))
    assert torch.equal(applied(Flip(probability=0), pixels)[0], pixels)


def shifted(image, down, right):
    """The image moved down and to the right, zeros where nothing is."""
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                out[:, row, column] = image[:, row - down, column - right]
    return out


def test_a_crop_is_a_shift_with_zeros(pixels):
    cropped, _ = applied(Crop(padding=2), pixels)
    found = set()
    for image, crop in zip(pixels, cropped, strict=True):
        shifts = [(d, r) for d in range(-2, 3) for r in range(-2, 3)]
        (shift,) = [s for s in shifts if torch.equal(crop, shifted(image, *s))]
        found.add(shift)
    assert len(found) > 12  # of 25


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_blots_a_square_that_the_border_may_cut(pixels, size):
    holed, _ = applied(Cutout(size=size), pixels.repeat(10, 1, 1, 1))
    areas = set()
    for image, hole in zip(pixels.repeat(10, 1, 1, 1), holed, strict=True):
        gone = (hole == 0).all(dim=0)
        assert torch.equal(hole, image * ~gone)
        rows, columns = gone.any(1).nonzero(), gone.any(0).nonzero()
        sides = [int(ends.max() - ends.min() + 1) for ends in (rows, columns)]
        assert all(side <= size for side in sides)
        assert gone.sum() == sides[0] * sides[1]
        areas.add(int(gone.sum()))
    assert max(areas) == size * size
    assert (min(areas) < size * size) == (size > 1)


def test_cutmix_has_a_box_of_another_image_and_the_label_of_what_is_most(pixels):
    mixed, labels = applied(Cutmix(probability=1), pixels)
    kept, taken = 0, 0
    for place, (image, mix) in enumerate(zip(pixels, mixed, strict=True)):
        own = (mix == image).all(dim=0)
        if own.all():
            assert labels[place] == place
            continue
        (other,) = [o for o, p in enumerate(pixels) if torch.equal(mix[:, ~own], p[:, ~own])]
        rows, columns = (~own).any(1).nonzero(), (~own).any(0).nonzero()
        assert (~own).sum() == (np.ptp(rows.numpy()) + 1) * (np.ptp(columns.numpy()) + 1)
        mostly_other = (~own).sum() > own.sum()
        assert labels[place] == (other if mostly_other else place)
        kept, taken = kept + int(not mostly_other), taken + int(mostly_other)
    assert kept > 5
    assert taken > 0
    half, _ = applied(Cutmix(), pixels)
    assert 12 < sum(torch.equal(h, p) for h, p in zip(half, pixels, strict=True)) < 36


class Counting(nn.Module):
    """A teacher that notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(70, 4)
        self.asked = []

    def forward(self, images):
        assert not self.training
        self.asked.append(images)
        return self.linear(images.flatten(1))


def test_the_teacher_is_asked_of_what_changed_and_of_nothing_else(pixels):
    teacher = Counting().train()
    augment = Augmenter([Flip()], teacher, image_shape=(2, 5, 7), seed=3)
    stored = torch.randn(40, 4)
    labels, noise = torch.arange(40) % 4, torch.empty(0)
    rows = torch.arange(40)
    batch = ImageBatch(6, np.random.default_rng(0), pixels, labels, stored, noise, rows)
    found = augment(batch, 2)
    changed = (found.images != pixels).flatten(1).any(dim=1)
    assert 8 < changed.sum() < 32
    (asked,) = teacher.asked
    assert torch.equal(asked, found.images[changed])
    assert torch.equal(found.teacher_logits[~changed], stored[~changed])
    with torch.no_grad():
        expected = teacher.linear(found.images[changed].flatten(1))
    assert torch.equal(found.teacher_logits[changed], expected)
    assert teacher.training
    assert torch.equal(batch.teacher_logits, stored)

    again, other = augment(batch, 2), augment(batch, 3)
    assert torch.equal(again.images, found.images)
    assert not torch.equal(other.images, found.images)
    before = len(teacher.asked)
    nothing = Augmenter([Flip(probability=0)], teacher, image_shape=(2, 5, 7), seed=3)(batch, 2)
    assert torch.equal(nothing.teacher_logits, stored)
    assert len(teacher.asked) == before


def test_what_is_attacked_and_trained_on_is_what_came_out(make_student, images):
    """Flipping all images is training on the flipped ones with the teacher's logits of these."""
    teacher = make_student(seed=3).eval()
    with torch.no_grad():
        logits = teacher(images.flip(3))
    augmented = make_trainer(
        make_student(), images, augmentations=[Flip(probability=1)], teacher=teacher
    )
    plain = make_trainer(make_student(), images.flip(3), teacher_logits=logits)
    for _ in range(3):
        ours, theirs = augmented.step(), plain.step()
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
    for name, value in plain.student.state_dict().items():
        torch.testing.assert_close(
            augmented.student.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name
        )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_images_as_stored_are_augmented_as_their_floats(make_student, images, dtype):
    stored = (255 * images).round().to(dtype) if dtype == torch.uint8 else images.to(dtype)
    floats = stored.float() / 255 if dtype == torch.uint8 else stored.float()
    first, second = (
        make_trainer(
            make_student(),
            x,
            teacher_logits=logits_of(floats),
            augmentations=[Crop(padding=1), Cutmix()],
            teacher=make_student(seed=3),
        ).step()
        for x in (stored, floats)
    )
    assert first == second


@pytest.mark.parametrize(
    ("name", "options", "shape", "said"),
    [
        ("cutout", {}, (1, 8, 8), "size: 8 leaves nothing of 8x8 images"),
        ("crop", {"padding": 8}, (1, 8, 9), "padding: 8 leaves nothing of 8x9 images"),
        ("cutout", {"size": 0}, (1, 8, 8), "size: 0 must be a whole number"),
        ("crop", {"padding": 1.5}, (1, 8, 8), "padding: 1.5 must be a whole number"),
        ("flip", {"probability": 2}, (1, 8, 8), r"probability: 2 must be a number in \[0, 1\]"),
        ("cutmix", {"alpha": 0}, (1, 8, 8), "alpha: 0 must be a number above 0"),
        ("mixup", {}, (1, 8, 8), "augmentation 'mixup' is unknown"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name, options, shape, said):
    with pytest.raises(InputError, match=said):
        AUGMENTATIONS.make(name, **options).require_fits(shape)


def test_a_trainer_refuses_augmentations_that_it_cannot_have(make_student, images):
    with pytest.raises(InputError, match="teacher: is needed"):
        make_trainer(make_student(), images, augmentations=[Flip()])
    with pytest.raises(InputError, match="size: 6 leaves nothing of 6x6 images"):
        make_trainer(make_student(), images, augmentations=[Cutout(size=6)], teacher=make_student())
