"""Automated: what it searches, how it halves, what its only choice gives, and what it refuses."""

import sys
import warnings

import pytest
import torch

from dfshield.attacks import APGDCE, ATTACKS, Automated, make_attack
from dfshield.attacks.automated_search import search
from dfshield.attacks.automated_space import SPACE, Choice, parsed_choices
from dfshield.attacks.losses import LOSSES
from dfshield.errors import DfshieldWarning, InputError
from dfshield.evaluation import evaluate

EPS = 0.1
FIXED = {"name": "apgd-ce", "num_steps": 10, "restarts": 1}


def quietly(attack, model, x, y, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DfshieldWarning)
        return attack(model, x, y, seed=seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_as_its_only_choice_is_ours_bit_for_bit(hardened_net, digits, norm):
    x, y = digits[0][:40], digits[1][:40]
    ours = APGDCE(eps=EPS, norm=norm, num_steps=10)
    alone = Automated(eps=EPS, norm=norm, choices=[FIXED], stages=1)
    expected = ours(hardened_net, x, y, seed=5)
    assert torch.equal(quietly(alone, hardened_net, x, y, seed=5), expected)
    with torch.no_grad():
        assert 0 < (hardened_net(expected).argmax(1) == y).sum() < 40
    # A sequence keeps what its first attack broke, and goes on with the rest alone.
    three = quietly(Automated(eps=EPS, norm=norm, choices=[FIXED]), hardened_net, x, y, seed=5)
    broken = (expected != x).flatten(1).any(1)
    assert torch.equal(three[broken], expected[broken])


def test_it_is_no_weaker_than_what_it_chooses_from_and_says_what_it_found(hardened_net, digits):
    x, y = digits[0][:40], digits[1][:40]
    weak = {"name": "pgd", "num_steps": 1, "step_size": 0.001, "loss": "ce"}
    attack = Automated(eps=EPS, choices=[weak, FIXED], trials=8, images=20, stages=2)
    result = evaluate(hardened_net, (x, y), attack)
    alone = evaluate(hardened_net, (x, y), make_attack(eps=EPS, **FIXED))
    assert result.num_correct <= alone.num_correct
    (note,) = [note for note in result.notes if note.startswith("automated ran what it found")]
    assert "automated ran what it found: apgd-ce (num_steps 10, restarts 1), then " in note
    again = evaluate(hardened_net, (x, y), attack)
    same = {"seconds": 0.0}
    assert again.model_copy(update=same) == result.model_copy(update=same)


def test_the_slices_do_not_depend_on_who_attacks_them_or_when(hardened_net, digits):
    choices = ["fgsm", {"name": "pgd", "num_steps": 2}]
    attack = Automated(eps=EPS, choices=choices, trials=6, images=4, stages=2)
    x, y = digits[0][:20], digits[1][:20]
    first = quietly(attack, hardened_net, x, y, seed=3)
    quietly(attack, hardened_net, *(each[20:30] for each in digits), seed=4)
    torch.manual_seed(1)
    assert torch.equal(quietly(attack, hardened_net, x, y, seed=3), first)


def test_a_quarter_stays_while_the_sample_doubles():
    choices = (Choice("fab-t", {"num_steps": 20}), Choice("square", {}))
    asked = []

    def score(candidate, places):
        asked.append((candidate, places))
        options = dict(candidate.options)
        return options["queries"] / 5000 if candidate.name == "square" else 0.0

    places = torch.arange(100, 150)
    best = search(score, choices, places, trials=40, sample=10, eps=0.1, seed=0)
    sizes = [len(on) for _, on in asked]
    count = sizes.count(10)
    assert count > 10
    rounds = [(10, count), (20, -(-count // 4)), (40, -(-count // 16)), (50, 1)]
    rounds = rounds[: 4 if -(-count // 16) > 1 else 3]
    assert sizes == [size for size, n in rounds for _ in range(n)]
    assert set(asked[0][1].tolist()) < set(asked[count][1].tolist()) < set(places.tolist())
    assert len({candidate for candidate, _ in asked[:count]}) == count
    # The estimator goes where the score is: the best beats all of its first ten random draws.
    queries = [dict(c.options).get("queries", 0) for c, _ in asked[:count]]
    assert dict(best.options)["queries"] == max(queries) >= max(queries[:10])
    assert max(queries) > 4500


def test_options_are_searched_unless_they_are_given(monkeypatch):
    given = {"name": "pgd", "loss": "dlr", "random_start": False}
    fgsm, pgd = parsed_choices(["fgsm", given], eps=0.1, norm="linf", eot=1)
    assert fgsm.open == {}
    assert set(pgd.open) == {"num_steps", "step_size"}
    for name, options in SPACE.items():
        assert options.keys() <= ATTACKS.defaults(name).keys()
    assert set(SPACE["pgd"]["loss"]) == set(LOSSES)
    (averaging,) = parsed_choices(["apgd-ce"], eps=0.1, norm="linf", eot=4)
    assert averaging.given == {"eot": 4}
    text = '["fgsm", {"name": "pgd", "loss": "dlr", "random_start": false}]'
    for same in (text, ["fgsm", given]):
        described = Automated(eps=0.1, choices=same).describe()
        assert make_attack(**described).describe() == described
    assert Automated(eps=0.1).describe()["choices"].count("name") == len(SPACE)


def test_what_takes_too_long_is_not_chosen(hardened_net, digits):
    x, y = digits[0][:12], digits[1][:12]
    slow = {"name": "pgd", "num_steps": 400, "step_size": 0.02, "loss": "ce"}
    attack = Automated(eps=EPS, choices=["fgsm", slow], trials=6, stages=1, seconds=0.02)
    with pytest.warns(DfshieldWarning, match="automated ran what it found: fgsm$"):
        attack(hardened_net, x, y)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choices": ["boundary"]}, "choices: 'boundary'"),
        ({"choices": []}, "choices: a list of attacks was expected"),
        ({"choices": [3]}, "choices: 3 is no attack"),
        ({"choices": "[{]"}, "choices: not JSON"),
        ({"choices": [{"name": "pgd", "num_stepz": 3}]}, "choices: pgd: num_stepz: is no option"),
        ({"choices": [{"name": "pgd", "loss": "no"}]}, "choices: pgd: loss: "),
        ({"trials": 0}, "trials: 0 must be"),
        ({"images": 0}, "images: 0 must be"),
        ({"stages": 0}, "stages: 0 must be"),
        ({"seconds": 0}, "seconds: 0 must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(options, said):
    with pytest.raises(InputError) as caught:
        make_attack("automated", eps=0.1, **options)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_without_optuna_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"^automated needs Optuna: pip install"):
        Automated(eps=0.1)
