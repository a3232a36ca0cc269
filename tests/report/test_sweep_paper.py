from dataclasses import replace

import pytest

from dfshield.report.sweep import paper_cells, settings_of

L1, L2 = "training.objective.lambda1", "training.objective.lambda2"
TAU, K, EPS = "training.gradrefine.tau", "training.gradrefine.num_batches", "threat.eps"


def cells(data):
    """The paper's cells by swept values: (table, clean, AutoAttack) in percent."""
    found = zip(settings_of(data), paper_cells(data), strict=True)
    return {
        tuple(s.values.values()): c
        and (c.table, round(100 * c.clean, 2), round(100 * c.autoattack, 2))
        for s, c in found
    }


@pytest.mark.parametrize(
    ("architecture", "data_name", "parameters", "expected"),
    [
        # Read off the paper's tables by eye.
        (
            "pytorchcv:resnet20_cifar10",
            "cifar10",
            {L1: [0.1, 1, 100], L2: [1.0, 10]},
            {
                (0.1, 1.0): (26, 72.44, 24.20),
                (0.1, 10): (26, 14.84, 11.45),
                (1, 1.0): (26, 74.79, 22.65),
                (1, 10): (26, 15.75, 12.53),
                (100, 1.0): (26, 10.0, 10.0),
                (100, 10): (26, 10.0, 10.0),
            },
        ),
        ("dfshield:resnet56", "svhn", {L1: [0.1], L2: [1]}, {(0.1, 1): (25, 84.51, 58.01)}),
        (
            "pytorchcv:wrn28_10_svhn",
            "svhn",
            {TAU: [0.0, 0.3, 1.0, 0.35]},
            {
                (0.0,): (24, 93.69, 61.99),
                (0.3,): (24, 93.86, 63.13),
                (1.0,): (24, 95.42, 59.45),
                (0.35,): None,
            },
        ),
        (
            "dfshield:resnet20",
            "cifar10",
            {K: [1, 20, 40, 3]},
            {
                (1,): (23, 77.83, 19.09),
                (20,): (23, 74.63, 22.63),
                (40,): (23, 28.87, 10.35),
                (3,): None,
            },
        ),
        (
            "dfshield:resnet20",
            "cifar10",
            {EPS: ["2/255", "4/255", 8 / 255]},
            {
                ("2/255",): (15, 80.66, 46.73),
                ("4/255",): (15, 74.79, 22.65),
                (8 / 255,): (15, 63.69, 4.71),
            },
        ),
        # A grid of two keys that the paper moves one at a time: only its arms are in the tables.
        (
            "pytorchcv:wrn28_10_cifar10",
            "cifar10",
            {TAU: [0.3, 0.5], K: [4, 20]},
            {
                (0.3, 4): None,
                (0.3, 20): (24, 87.53, 42.93),
                (0.5, 4): (23, 87.85, 42.10),
                (0.5, 20): (23, 86.74, 43.73),
            },
        ),
    ],
)
def test_cells_are_the_paper_s(make_sweep, architecture, data_name, parameters, expected):
    data = make_sweep(parameters, lambda v, s: {}, architecture=architecture, data_name=data_name)
    assert cells(data) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"data_name": None},
        {"data_name": "digits"},
        {"data_name": "svhn"},  # the classifier is one of CIFAR-10
        {"architecture": "dfshield:resnet8"},
        {"architecture": "dfshield:resnet110"},
        {"architecture": "dfshield:resnet200"},
        {"architecture": "pytorchcv:resnet20_cifar100"},
        {"threat": {"norm": "l2", "eps": 4 / 255}},
    ],
)
def test_another_place_has_no_cells(make_sweep, changes):
    data = make_sweep({L1: [1.0], L2: [1.0]}, lambda v, s: {}, **changes)
    assert paper_cells(data) == (None,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (TAU, 0.4),
        (K, 4),
        (EPS, "8/255"),
        ("training.objective.name", "trades"),
        ("training.schedule.name", "cosine"),
        ("training.schedule.warmup", 0.1),
        ("training.average.name", "ema"),
        ("training.augmentations", [{"name": "flip", "probability": 0.5}]),
        ("training.weight_perturbation", 0.005),
        ("training.images.labels", "hard"),
        ("teacher.options.width", 8),
    ],
)
def test_another_setting_beside_the_swept_ones_has_no_cells(make_sweep, key, value):
    data = make_sweep({L1: [0.1], L2: [1.0]}, lambda v, s: {})
    assert paper_cells(data) != (None,)
    assert paper_cells(replace(data, settings={**data.settings, key: value})) == (None,)


def test_a_further_swept_key_has_no_cells(make_sweep):
    data = make_sweep({L1: [1.0], "training.learning_rate": [1e-4]}, lambda v, s: {})
    assert paper_cells(data) == (None,)
