"""Hold-out measures: what each asks, what they cost, and that a collapsed student cannot win."""

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.errors import InputError
from dfshield.training import MEASURES, InnerMaximization, holdout_metrics, measured_epochs

EPS = 0.1


class Threshold(nn.Module):
    """Class 1 where the mean pixel lies above a threshold, by the logits of a linear model."""

    def __init__(self, threshold=0.5):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.threshold = threshold

    def forward(self, x):
        above = self.scale * (x.mean(dim=(1, 2, 3)) - self.threshold)
        return torch.stack([-above, above], dim=1)


def score(name, student, images, teacher, *, eps=EPS, norm="linf", batch_size=200, **options):
    with torch.no_grad():
        logits = teacher(images)
    metrics = holdout_metrics(
        student,
        images,
        logits,
        inner=InnerMaximization(eps=eps, norm=norm, num_steps=4),
        generator=np.random.default_rng,
        batch_size=batch_size,
        measure=MEASURES.make(name, **options),
        teacher=teacher,
    )
    return {**metrics.model_dump(), **metrics.scores}[name]


def grey(*levels):
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_measure_is_a_share_and_leaves_the_models_as_they_were(
    make_student, images, name, norm
):
    student, teacher = make_student(seed=8).train(), make_student(seed=2).eval()
    before = deepcopy([m.state_dict() for m in (student, teacher)])
    assert 0 <= score(name, student, images, teacher, norm=norm) <= 1
    assert student.training
    assert not teacher.training
    for model, state in zip((student, teacher), before, strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key]), key
    assert score(name, student, images, teacher) == score(name, student, images, teacher)


@pytest.mark.parametrize("name", MEASURES)
def test_what_a_measure_draws_changes_no_figure_of_every_epoch(make_student, images, name):
    student, teacher = make_student(seed=8).eval(), make_student(seed=2).eval()
    logits = teacher(images).detach()
    given = {"inner": InnerMaximization(eps=EPS, num_steps=4), "generator": np.random.default_rng}
    plain = holdout_metrics(student, images, logits, **given)
    measured = holdout_metrics(
        student, images, logits, measure=MEASURES.make(name), teacher=teacher, **given
    )
    assert "scores" not in plain.to_json()
    own = {key: value for key, value in measured.to_json().items() if key != "scores"}
    assert own == plain.to_json()
    assert ("scores" in measured.to_json()) == (name not in plain.to_json())


def test_the_attack_on_cross_entropy_reaches_every_image_within_eps_of_the_boundary():
    """Of a linear model the strongest attack is known: every pixel by eps towards the boundary."""
    levels = [0.05, 0.15, 0.25, 0.35, 0.42, 0.45, 0.55, 0.58, 0.65, 0.95]
    images, student, teacher = grey(*levels), Threshold(0.53), Threshold(0.5)
    expected = [level > 0.5 for level in levels]
    clean = [(level > 0.53) == wanted for level, wanted in zip(levels, expected, strict=True)]
    stands = [
        (level - EPS > 0.53) if wanted else (level + EPS <= 0.53)
        for level, wanted in zip(levels, expected, strict=True)
    ]
    found = score("agreement_ce", student, images, teacher)
    assert found == pytest.approx(np.mean(clean) * np.mean(stands), abs=1e-12)
    assert np.mean(stands) == 0.7


def test_mixtures_find_what_lies_between_the_images():
    """Black and white are told alike; of mixtures of both, a fifth lies between the thresholds."""
    images = grey(*[0.0, 1.0] * 2000)
    student, teacher = Threshold(0.3), Threshold(0.5)
    assert score("agreement_clean", student, images, teacher) == 1.0
    assert score("agreement_mixtures", teacher, images, teacher, noise=0) == 1.0
    found = score("agreement_mixtures", student, images, teacher, noise=0, batch_size=4000)
    # Half of the pairs are of both kinds: 0.9, within four standard deviations of 4,000 draws.
    assert abs(found - 0.9) < 4 * (0.09 / 4000) ** 0.5
    assert score("agreement_mixtures", student, images, teacher, noise=8) < found


def test_the_product_is_that_of_its_three_shares():
    images = torch.rand(120, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    student, teacher = Threshold(0.53), Threshold(0.5)
    both = score("agreement_ce", student, images, teacher)
    whole = score("agreement_ce_mixtures", student, images, teacher)
    mixed = whole / both
    assert 0 < mixed < 1
    assert round(mixed * 120) == pytest.approx(mixed * 120, abs=1e-9)


class Constant(nn.Module):
    """Class 0 for everything, whatever the image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.stack([1 + 0 * self.weight * x.sum(dim=(1, 2, 3)), 0 * x[:, 0, 0, 0]], dim=1)


def test_a_constant_answer_that_no_attack_moves_is_behind_one_that_is_half_robust():
    """Where attacks alone are counted it is ahead of it."""
    images, teacher = grey(0.2, 0.45, 0.55, 0.8), Threshold(0.5)
    constant, honest = Constant(), Threshold(0.5)
    under_attack = [
        score("agreement_ce", s, images, teacher) / score("agreement_clean", s, images, teacher)
        for s in (constant, honest)
    ]
    assert under_attack == [0.5, 0.5]
    assert score("agreement_ce", constant, images, teacher) == 0.25
    assert score("agreement_ce", honest, images, teacher) == 0.5


def test_a_measure_takes_five_percent_of_a_training_at_most_and_the_last_epoch_always():
    measure = MEASURES.make("agreement_ce_mixtures")
    assert measure.passes == 43
    for epochs, num_holdout, num_images in product((1, 7, 20, 200), (20, 200, 1000), (80, 2000)):
        taken = measured_epochs(
            measure, epochs=epochs, num_holdout=num_holdout, num_images=num_images, passes=27.0
        )
        assert taken[-1] == epochs - 1
        assert taken[0] >= 0
        share = len(taken) * 43 * num_holdout / (27 * num_images * epochs)
        assert share <= 0.05 or len(taken) == 1
    free = MEASURES.make("agreement_pgd")
    sizes = {"epochs": 9, "num_holdout": 500, "num_images": 100, "passes": 27.0}
    assert list(measured_epochs(free, **sizes)) == list(range(9))


def test_bad_options_and_a_missing_teacher_are_refused(images, make_student):
    with pytest.raises(InputError, match=r"^num_steps: "):
        MEASURES.make("agreement_ce_mixtures", num_steps=0)
    with pytest.raises(InputError, match=r"^noise: "):
        MEASURES.make("agreement_mixtures", noise=-1)
    with pytest.raises(InputError, match="teacher: is needed beside measure"):
        holdout_metrics(
            make_student(),
            images,
            torch.zeros(50, 4),
            inner=InnerMaximization(eps=EPS),
            generator=np.random.default_rng,
            measure=MEASURES.make("agreement_ce"),
        )
