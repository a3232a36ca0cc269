"""Every baseline with options so small that a step takes no time."""

import pytest

from dfshield.baselines import BASELINES
from dfshield.training import InnerMaximization

SMALL = {
    "dast": {"epochs": 2, "iterations_per_epoch": 2, "batch_size": 9, "width": 4},
    "dfme": {"query_budget": 4 * 7 * 9, "batch_size": 9, "width": 4, "latent": 5},
    "ait": {
        "epochs": 2,
        "iterations_per_epoch": 2,
        "warmup_epochs": 1,
        "milestones": (1,),
        "batch_size": 9,
        "width": 4,
        "latent": 5,
    },
    "dfard": {"epochs": 2, "iterations_per_epoch": 2, "batch_size": 9, "width": 4, "latent": 5},
}
INNER = InnerMaximization(eps="8/255", num_steps=2)
every = pytest.mark.parametrize("name", SMALL)


def begun(name, teacher, **changes):
    return BASELINES.make(name, **{**SMALL[name], **changes}).begin(teacher, inner=INNER, seed=3)
