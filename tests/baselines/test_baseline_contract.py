"""What all baselines keep to: resume, queries, failures, bad input."""

import copy

import numpy as np
import pytest
import torch
from small_baselines import INNER, SMALL, begun, every
from torch import nn

from dfshield.baselines import AIT, BASELINES, DFARD, DFME, DaST
from dfshield.errors import DfshieldError, InputError
from dfshield.training import InnerMaximization


def everything(fit):
    return {
        **{f"s.{k}": v for k, v in fit.student.state_dict().items()},
        **{f"g.{k}": v for k, v in fit.network.state_dict().items()},
    }


@every
@pytest.mark.parametrize("init", ["teacher", "scratch"])
def test_one_that_goes_on_equals_one_that_never_stopped(teacher, name, init):
    changes = {"init": init, **({"alpha_threshold": 10.0} if name == "dast" else {})}
    whole, stopped = (begun(name, teacher, **changes) for _ in range(2))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    losses = [whole.step() for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert whole.done
    stopped.step(), stopped.step()
    state = copy.deepcopy(stopped.state_dict())
    going_on = begun(name, teacher, **changes)
    going_on.load_state_dict(state)
    assert [going_on.step() for _ in range(2)] == losses[2:]
    assert going_on.queries == whole.queries
    assert torch.equal(going_on.samples(5), whole.samples(5))
    for key, value in everything(going_on).items():
        assert torch.equal(value, everything(whole)[key]), key
    with pytest.raises(DfshieldError, match="4 of 4 are done, none is left"):
        whole.step()


@every
def test_the_teacher_is_left_as_it_was(teacher, name):
    before = teacher.fingerprint()
    fit = begun(name, teacher)
    with torch.no_grad():
        fit.step()
    assert teacher.fingerprint() == fit.teacher.fingerprint() == before
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is None for weight in fit.student.parameters())


@pytest.mark.parametrize(
    ("method", "access", "queries"),
    [
        (DaST(**SMALL["dast"]), "labels", 9),
        (DaST(**SMALL["dast"], beta=0.1), "logits", 9),
        (DFME(**SMALL["dfme"]), "logits", 9 * 7),
        (DFME(**SMALL["dfme"], directions=3), "logits", 9 * 9),
        (DFME(**SMALL["dfme"], gradient="exact"), "gradients", 9 * 6),
        (AIT(**SMALL["ait"]), "gradients", 9),
        (DFARD(**SMALL["dfard"]), "gradients", 9),
    ],
)
def test_the_kind_of_access_is_said_and_queries_are_counted(teacher, method, access, queries):
    asked = 0

    def count(_module, inputs):
        nonlocal asked
        asked += len(inputs[0])

    fit = method.begin(teacher, inner=INNER, seed=0)
    fit.teacher.network.register_forward_pre_hook(count)
    fit.step()
    assert method.access == access
    assert fit.queries == asked == queries


@every
def test_scratch_begins_at_random_weights_of_the_seed(teacher, name):
    fit = begun(name, teacher, init="scratch")
    again = begun(name, teacher, init="scratch")
    assert torch.equal(fit.student.network[0].weight, again.student.network[0].weight)
    assert not torch.equal(fit.student.network[0].weight, teacher.network[0].weight)
    assert not fit.student.network[1].running_mean.any()


@every
@pytest.mark.parametrize("broken", ["student", "generator"])
def test_what_is_not_finite_ends_the_training_with_what_was_before(teacher, name, broken):
    fit = begun(name, teacher, **({"warmup_epochs": 0} if name == "ait" else {}))
    fit.step()
    state = copy.deepcopy(fit.state_dict())
    weights = state[broken]
    for key in weights:
        if key.endswith("bias"):
            weights[key].fill_(float("nan"))
    fit.load_state_dict(state)
    before = copy.deepcopy(fit.student.state_dict())
    assert fit.step() == {}
    assert (fit.diverged, fit.steps_done, fit.done) == (2, 1, True)
    for key, value in fit.student.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, equal_nan=True)


@every
def test_a_generator_that_collapses_is_noted_and_goes_on(teacher, name):
    fit = begun(name, teacher, **({"warmup_epochs": 0} if name == "ait" else {}))
    last = {
        "dast": lambda g: g.trunk[-1],
        "dfard": lambda g: g.layers[-1],
    }.get(name, lambda g: g.last[0])(fit.network)
    nn.init.zeros_(last.weight)
    losses = fit.step()
    assert fit.collapsed == 1
    assert np.isfinite(losses["loss"])
    fit.step()
    assert fit.collapsed == 1


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["ait", "dfard"])
def test_what_matches_statistics_refuses_a_teacher_without_batchnorm(make_teacher, name):
    with pytest.raises(InputError, match="has no BatchNorm layer with running statistics"):
        begun(name, make_teacher(batchnorm=False))


@pytest.mark.parametrize("name", ["dast", "dfme"])
def test_others_take_a_teacher_without_batchnorm(make_teacher, name):
    assert np.isfinite(begun(name, make_teacher(batchnorm=False)).step()["loss"])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dfme", {"query_budget": 100}, "the query_budget of 100 ends before the first step"),
        ("ait", {"epochs": 100}, "milestones: the training of 100 epochs ends before the learning"),
        ("ait", {"epochs": 4, "milestones": ()}, "warmup_epochs: 4 of 4 epochs leave none"),
        ("dfme", {"drops": (0.1, 1.5)}, "drops: 1.5 must be a number in"),
        ("dfme", {"feature_weight": 0.1}, "feature_weight: is no option of dfme"),
        ("dast", {"init": "random"}, "init: 'random' is unknown"),
        ("dfard", {"temperature": 0.5}, "temperature: 0.5 must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(name, options, said):
    with pytest.raises(InputError, match=said):
        BASELINES.make(name, **options)


def test_fewer_images_than_branches_are_refused(teacher):
    with pytest.raises(InputError, match="batch_size: 2 images cannot be shared out to 3 branches"):
        begun("dast", teacher, batch_size=2)


def test_another_inner_loss_is_refused(teacher):
    inner = InnerMaximization(eps=0.1, loss="ce")
    with pytest.raises(InputError, match=r"inner.loss: ce, but the baselines' images ascend kl"):
        DaST(**SMALL["dast"]).begin(teacher, inner=inner, seed=0)
