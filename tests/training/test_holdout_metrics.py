"""Agreement with the teacher and the alarm for a collapsed student."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.training import InnerMaximization, holdout_metrics


def metrics(student, images, teacher_logits, *, eps=0.1, **options):
    return holdout_metrics(
        student,
        images,
        teacher_logits,
        inner=InnerMaximization(eps=eps, num_steps=4),
        generator=np.random.default_rng,
        **options,
    )


@pytest.fixture
def teacher(make_student):
    return make_student(seed=2).eval()


def test_the_teacher_agrees_with_itself(teacher, images):
    with torch.no_grad():
        logits = teacher(images)
    result = metrics(deepcopy(teacher), images, logits, eps=0.5)
    assert result.agreement_clean == 1.0
    assert result.agreement_pgd < 1.0
    assert result.histogram == tuple(torch.bincount(logits.argmax(1), minlength=4).tolist())
    # A ball of no size leaves nothing to perturb.
    assert metrics(teacher, images, logits, eps=0).agreement_pgd == 1.0


def test_agreement_is_with_the_teacher_and_not_with_any_label(teacher, make_student, images):
    student = make_student(seed=8).eval()
    with torch.no_grad():
        logits = teacher(images)
        expected = (student(images).argmax(1) == logits.argmax(1)).double().mean().item()
    result = metrics(student, images, logits)
    assert 0 < expected < 1
    assert result.agreement_clean == pytest.approx(expected)
    assert result.agreement_pgd <= result.agreement_clean + 0.1


class Threshold(nn.Module):
    """Class 1 for images whose first pixel is bright, class 0 for all others."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        bright = self.scale * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-bright, bright, torch.full_like(bright, -99)], dim=1)


@pytest.mark.parametrize(("odd_ones_out", "collapsed"), [(0, True), (4, True), (5, False)])
def test_a_student_is_collapsed_when_one_class_takes_more_than_95_percent(odd_ones_out, collapsed):
    images = torch.zeros(100, 1, 2, 2)
    images[:odd_ones_out] = 1.0
    logits = torch.eye(3)[torch.arange(100) % 3]
    result = metrics(Threshold(), images, logits)
    assert result.histogram == (100 - odd_ones_out, odd_ones_out, 0)
    assert result.collapsed is collapsed


def test_the_batch_size_changes_no_clean_figure_and_the_student_is_left_as_it_was(
    teacher, make_student, images
):
    student = make_student(seed=8).train()
    before = deepcopy(student.state_dict())
    with torch.no_grad():
        logits = teacher(images)
    whole, pieces = (metrics(student, images, logits, batch_size=n) for n in (200, 7))
    assert (whole.agreement_clean, whole.histogram) == (pieces.agreement_clean, pieces.histogram)
    assert sum(whole.histogram) == len(images)
    assert student.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


class Remembering(InnerMaximization):
    """Perturbs nothing and keeps its images and the first number of its generator."""

    def __init__(self):
        super().__init__(eps=0)
        self.calls = []

    def __call__(self, student, images, *, generator):
        self.calls.append((images, generator.random()))
        return images


def test_every_chunk_draws_from_the_generator_of_its_index(teacher, images):
    inner = Remembering()
    holdout_metrics(
        teacher,
        images,
        torch.zeros(50, 4),
        inner=inner,
        generator=np.random.default_rng,
        batch_size=20,
    )
    assert torch.equal(torch.cat([chunk for chunk, _ in inner.calls]), images)
    assert [len(chunk) for chunk, _ in inner.calls] == [20, 20, 10]
    expected = [np.random.default_rng(index).random() for index in range(3)]
    assert [draw for _, draw in inner.calls] == expected
