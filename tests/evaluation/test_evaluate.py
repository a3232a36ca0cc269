"""Slices, their seeds, and what a whole evaluation makes of them."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from dfshield.attacks import FGSM, PGD, Attack, AutoAttack
from dfshield.errors import InputError
from dfshield.evaluation import (
    DataInfo,
    SliceResult,
    evaluate,
    evaluate_slice,
    slice_bounds,
    summarise,
)
from dfshield.seeds import RngStream, derived_seed


def predictions(model, x):
    with torch.no_grad():
        return model(x).argmax(1)


def test_clean_accuracy_equals_a_hand_count(model, images):
    x, y = images
    result = evaluate(model, images, None, slice_size=16, label="teacher")
    predicted = predictions(model, x)
    right = (predicted == y).sum().item()
    assert 30 < right < 60
    assert result.num_correct == right
    assert result.accuracy == right / 60
    assert result.prediction_histogram == tuple(np.bincount(predicted, minlength=5).tolist())
    recalls = [(predicted[y == label] == label).float().mean().item() for label in range(5)]
    assert result.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert (result.label, result.attack, result.norm, result.eps) == ("clean", None, None, None)
    assert (result.floor, result.majority_class) == (pytest.approx(20 / 60), 0)
    assert (result.model, result.model_fingerprint) == ("teacher", None)
    assert not result.collapsed
    assert not result.below_floor
    assert result.max_perturbation == 0
    assert result.standard_suite is None
    assert result.notes == ()


def test_under_attack_each_slice_uses_its_own_seed(model, images):
    x, y = images
    attack = PGD(eps=0.1, num_steps=3, restarts=2)
    result = evaluate(model, images, attack, slice_size=25, seed=4)
    right = 0
    for index, start in enumerate((0, 25, 50)):
        part = slice(start, start + 25)
        x_adv = attack(model, x[part], y[part], seed=derived_seed(4, RngStream.EVALUATION, index))
        both = (predictions(model, x_adv) == y[part]) & (predictions(model, x[part]) == y[part])
        right += both.sum().item()
    assert result.num_correct == right
    assert right < evaluate(model, images, None).num_correct
    assert 0 < result.max_perturbation <= 0.1 + 1e-6
    assert result.attack == attack.describe()
    assert (result.label, result.norm, result.eps) == ("PGD-3 (2 restarts)", "linf", 0.1)


def test_order_in_which_slices_are_made_does_not_matter(model, images):
    x, y = images
    attack = PGD(eps=0.1, num_steps=3)
    whole = evaluate(model, images, attack, slice_size=16, seed=2)
    made = {}
    for index, part in reversed(list(enumerate(slice_bounds(60, 16)))):
        torch.manual_seed(index)
        seed = derived_seed(2, RngStream.EVALUATION, index)
        record = json.dumps(evaluate_slice(model, x[part], y[part], attack, seed=seed).to_json())
        made[index] = SliceResult.from_json(json.loads(record))
    again = summarise(
        [made[index] for index in sorted(made)],
        attack=attack,
        data=whole.data,
        model="model",
        model_fingerprint=None,
        seed=2,
        slice_size=16,
    )
    assert again.model_copy(update={"seconds": whole.seconds}) == whole


def test_slice_bounds():
    assert slice_bounds(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert slice_bounds(4, 2) == [slice(0, 2), slice(2, 4)]
    with pytest.raises(InputError, match="slice_size"):
        slice_bounds(4, 0)


def test_progress_counts_images(model, images):
    seen = []
    evaluate(model, images, None, slice_size=25, progress=lambda *count: seen.append(count))
    assert seen == [(25, 60), (50, 60), (60, 60)]


def test_an_image_set_is_taken_as_it_is(model, images):
    class Set:
        name, split = "shapes", "test"

        def __len__(self):
            return 60

        def tensors(self, index):
            return images[0][index], images[1][index]

        def fingerprint(self):
            return "abc"

    result = evaluate(model, Set(), None)
    assert result.data == DataInfo(name="shapes", split="test", fingerprint="abc", num_images=60)
    assert result.accuracy == evaluate(model, images, None).accuracy


def test_fingerprint_of_tensors_follows_their_content(model, images):
    x, y = images
    first = evaluate(model, (x, y), None).data.fingerprint
    assert first == evaluate(model, (x.clone(), y.clone()), None).data.fingerprint
    assert first != evaluate(model, (x, y.flip(0)), None).data.fingerprint


def test_an_image_wrong_when_clean_is_not_robust_even_if_the_attack_corrects_it(model, images):
    class Correct(Attack):
        """Move every image to its own prototype: all are right afterwards."""

        name = "correct"

        def perturb(self, attacked, x, y, *, seed):
            return model.prototypes[y].view_as(x)

    x, y = images
    part = evaluate_slice(model, x, y, Correct(eps=1.0), seed=0)
    assert part.adversarial_predictions == part.labels
    result = evaluate(model, images, Correct(eps=1.0))
    assert result.num_correct == (predictions(model, x) == y).sum().item() < 60


class Dark(nn.Module):
    """Logits of a model that turn NaN where the first pixel is below a threshold."""

    def __init__(self, model, threshold):
        super().__init__()
        self.model, self.threshold = model, threshold

    def forward(self, x):
        broken = x[:, 0, 0, :1] < self.threshold
        return torch.where(broken, x.new_tensor(float("nan")), self.model(x))


@pytest.mark.parametrize("attack", [None, FGSM(eps=0.05), PGD(eps=0.05, num_steps=2)])
def test_images_with_nan_logits_count_as_not_robust(model, images, attack):
    x, y = images
    sick = Dark(model, 0.5)
    dark = x[:, 0, 0, 0] < 0.5
    assert 0 < dark.sum() < 60
    part = evaluate_slice(sick, x, y, attack, seed=0)
    assert [guess == -1 for guess in part.clean_predictions] == dark.tolist()
    result = evaluate(sick, images, attack)
    assert result.non_finite >= dark.sum().item()
    assert result.num_correct <= 60 - result.non_finite
    assert sum(result.prediction_histogram) == 60 - result.non_finite
    assert any("not finite" in note for note in result.notes)
    if attack is None:
        right = (predictions(model, x) == y) & ~dark
        assert result.num_correct == right.sum().item()


def test_a_model_of_nan_alone_is_robust_nowhere(model, images):
    for attack in (None, PGD(eps=0.1, num_steps=1), AutoAttack(eps=0.1)):
        result = evaluate(Dark(model, 2.0), images, attack)
        assert (result.accuracy, result.non_finite) == (0, 60)


def test_autoattack_with_five_classes_is_the_standard_suite(model, images):
    x, y = images
    result = evaluate(model, (x[:20], y[:20]), AutoAttack(eps=0.5), slice_size=10)
    assert result.standard_suite is True
    assert result.notes == (
        "AutoAttack's targeted attacks took all 4 other classes as targets, fewer than the usual "
        "9 (2 of 2 slices)",
    )
    assert set(result.versions) == {"dfshield", "torch", "pyautoattack"}


def test_autoattack_with_three_classes_is_said_not_to_be_the_standard_suite(model, images):
    x, y = images
    model.prototypes = nn.Parameter(model.prototypes[:3].detach())
    model.offset = model.offset.clone()
    few = y < 3
    result = evaluate(model, (x[few], y[few]), AutoAttack(eps=0.5))
    assert result.standard_suite is False
    assert "not the standard AutoAttack suite" in result.notes[0]


def test_warnings_of_others_pass_through(model, images):
    class Noisy(Attack):
        name = "noisy"

        def perturb(self, model, x, y, *, seed):
            import warnings

            warnings.warn("not ours", UserWarning, stacklevel=1)
            return x

    with pytest.warns(UserWarning, match="not ours"):
        result = evaluate(model, images, Noisy(eps=0.1))
    assert result.notes == ()


def test_model_mode_is_restored(model, images):
    model.train()
    evaluate(model, images, FGSM(eps=0.1))
    assert model.training
    assert model.prototypes.requires_grad
    assert model.prototypes.grad is None


def test_bad_input_is_named(model, images):
    x, y = images
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        evaluate(model, (x * 255, y), None)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.4"):
        evaluate(model, (x, y + 1), None)
    with pytest.raises(InputError, match="60 images but 59 labels"):
        evaluate(model, (x, y[1:]), None)
    with pytest.raises(InputError, match="no image"):
        evaluate(model, (x[:0], y[:0]), None)
    with pytest.raises(InputError, match="logits of shape"):
        evaluate(nn.Flatten(0), (x, y), None)


def test_an_attack_on_a_stand_in_is_judged_by_the_model(model, constant, images):
    x, y = images
    attack = PGD(eps=0.2, num_steps=10)
    direct = evaluate_slice(model, x, y, attack, seed=3)
    same = evaluate_slice(model, x, y, attack, seed=3, attacked=deepcopy(model))
    assert same.adversarial_predictions == direct.adversarial_predictions
    misled = evaluate_slice(model, x, y, attack, seed=3, attacked=constant)
    x_adv = attack(constant, x, y, seed=3)
    assert misled.adversarial_predictions == tuple(predictions(model, x_adv).tolist())
    assert misled.clean_predictions == direct.clean_predictions
    assert misled.adversarial_predictions != direct.adversarial_predictions
