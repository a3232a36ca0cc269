"""What slices add up to: accuracy with interval, floor and flags; as JSON and back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dfshield.attacks import FGSM, PGD
from dfshield.errors import InputError
from dfshield.evaluation import (
    DataInfo,
    EvaluationResult,
    SliceResult,
    evaluate,
    evaluate_slice,
    mean_and_spread,
    summarise,
    wilson_interval,
)

OF_NO_ATTACK = {
    "clean_margins": (),
    "adversarial_margins": (),
    "distances": (),
    "queries": (),
    "randomised": False,
    "num_classes": 2,
    "max_perturbation": 0.0,
    "seconds": 0.0,
}


def test_a_constant_classifier_is_named(constant, images):
    result = evaluate(constant, images, FGSM(eps=0.1))
    assert result.accuracy == result.floor == pytest.approx(1 / 3)
    assert result.balanced_accuracy == pytest.approx(1 / 5)
    assert result.prediction_histogram == (60, 0, 0, 0, 0)
    assert result.collapsed
    assert not result.below_floor
    assert any(note.startswith("collapsed: 60 of 60") for note in result.notes)


def test_collapse_begins_above_95_percent():
    record = {
        "labels": (0, 1) * 50,
        "clean_predictions": (0,) * 95 + (1,) * 5,
        "adversarial_predictions": (0,) * 95 + (1,) * 5,
        **OF_NO_ATTACK,
        "notes": (),
    }

    def collapsed(predicted):
        part = SliceResult(**{**record, "adversarial_predictions": predicted})
        return summarise_one(part).collapsed

    assert not collapsed((0,) * 95 + (1,) * 5)
    assert collapsed((0,) * 96 + (1,) * 4)


def summarise_one(*parts):
    data = DataInfo(name="d", split="test", fingerprint="", num_images=100)
    return summarise(
        parts,
        attack=None,
        data=data,
        model="m",
        model_fingerprint=None,
        seed=0,
        slice_size=100,
    )


def test_below_the_floor(constant, images):
    x, y = images
    constant.offset = constant.offset.roll(1)
    result = evaluate(constant, (x, y), None)
    assert result.accuracy == pytest.approx(10 / 60)
    assert result.below_floor


def test_notes_of_one_kind_are_counted_once():
    record = {
        "labels": (0, 1),
        "clean_predictions": (0, 1),
        "adversarial_predictions": (0, 1),
        **OF_NO_ATTACK,
    }
    first = SliceResult(**record, notes=("there are 3 points", "other"))
    second = SliceResult(**record, notes=("there are 12 points",))
    notes = summarise_one(first, second).notes
    assert notes == ("there are 3 points (2 of 2 slices)", "other (1 of 2 slices)")


@pytest.mark.parametrize(("right", "total"), [(0, 10), (37, 50), (450, 450)])
def test_wilson_interval_against_the_formula(right, total):
    z = 1.959963984540054
    share = right / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total)
    half *= math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = wilson_interval(right, total)
    assert low == pytest.approx(max(0, centre - half), abs=1e-12)
    assert high == pytest.approx(min(1, centre + half), abs=1e-12)
    assert low <= share <= high


def test_mean_and_spread(model, images):
    x, y = images
    results = [evaluate(model, (x[i::3], y[i::3]), None) for i in range(3)]
    accuracies = [result.accuracy for result in results]
    mean, spread = mean_and_spread(results)
    assert mean == pytest.approx(np.mean(accuracies))
    assert spread == pytest.approx(np.std(accuracies, ddof=1))
    assert mean_and_spread(results[:1]) == (accuracies[0], None)
    with pytest.raises(InputError, match="no result"):
        mean_and_spread([])


def test_json_round_trip(model, images):
    result = evaluate(model, images, PGD(eps="8/255", num_steps=2))
    text = result.to_json()
    assert EvaluationResult.from_json(text) == result
    values = json.loads(text)
    assert values["attack"]["random_start"] is True
    assert values["attack"]["num_steps"] == 2
    assert len(values["prediction_histogram"]) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 7}, "format version 7 is newer"),
        ({"acuracy": 1}, "acuracy: Extra inputs"),
        ({"accuracy": "high"}, "accuracy: "),
    ],
)
def test_results_that_cannot_be_read_are_refused_in_one_line(model, images, change, message):
    values = json.loads(evaluate(model, images, None).to_json())
    with pytest.raises(InputError, match=f"a.json: {message}") as caught:
        EvaluationResult.from_json(json.dumps({**values, **change}), source="a.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        EvaluationResult.from_json("{", source="a.json")


def test_slice_records_that_cannot_be_read_are_refused(model, images):
    values = evaluate_slice(model, *images, None, seed=0).to_json()
    for change in ({"labels": ["a"]}, {"extra": 1}):
        with pytest.raises(InputError, match="not the record of a slice"):
            SliceResult.from_json({**values, **change})


def test_slices_of_several_engines_are_said_to_be_mixed(model, images):
    part = evaluate_slice(model, *images, None, seed=0)
    assert part.engine is None  # as in slices of older versions
    cpu, gpu = (replace(part, engine={"device": name, "torch": "2"}) for name in ("cpu", "cuda"))

    def mixed(*slices):
        return [note for note in summarise_one(*slices).notes if "several engines" in note]

    assert mixed(cpu, cpu) == mixed(part, cpu) == mixed(part, part) == []
    (note,) = mixed(cpu, part, gpu)
    assert "(device: cpu, cuda)" in note
