"""Settings of a sweep that must give the same student are marked, and no others."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from dfshield.report.sweep import render_sweep_page, settings_of
from dfshield.training import GradRefine


def unmeasured(values, seed):
    return {}


K, TAU = "training.gradrefine.num_batches", "training.gradrefine.tau"
TAUS = (0, 0.1, 0.5, 0.6, 1)


def updates(tau, most):
    """The steps that GradRefine takes for groups of 1 to ``most`` gradients, some of them zero."""
    draw = torch.Generator().manual_seed(0)
    steps = []
    for size in range(1, most + 1):
        weight = nn.Parameter(torch.zeros(2000))
        refine = GradRefine(torch.optim.SGD([weight], lr=1.0), tau=float(tau))
        for _ in range(size):
            gradient = torch.randn(2000, generator=draw)
            weight.grad = gradient * (torch.rand(2000, generator=draw) > 0.2)
            refine.accumulate()
        refine.step()
        steps.append(weight.detach())
    return torch.stack(steps)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_setting_is_marked_just_where_refinement_does_the_same(make_sweep, most):
    sweep = make_sweep({TAU: TAUS}, unmeasured, settings={K: most})
    marked = {s.values[TAU] for s in settings_of(sweep) if s.repeats}
    taken = {tau: updates(tau, most) for tau in TAUS}
    same = {tau for before, tau in pairwise(TAUS) if torch.equal(taken[before], taken[tau])}
    assert marked == same
    assert (most == 1) == (marked == {*TAUS} - {0})


def test_with_k_swept_too_the_cells_of_one_row_are_marked(make_sweep):
    sweep = make_sweep({K: (1, 20), TAU: TAUS, "training.objective.lambda1": (0.1, 1)}, unmeasured)
    repeats = [s.values for s in settings_of(sweep) if s.repeats]
    assert {values[K] for values in repeats} == {1}
    assert len(repeats) == 2 * (len(TAUS) - 1)
    page = render_sweep_page(sweep)
    assert "repeats another" in page
    assert "lets the same gradients pass" in page


def test_without_tau_or_k_nothing_is_marked(make_sweep):
    for parameters in ({"training.objective.lambda1": (0.1, 1)}, {TAU: TAUS}):
        assert not any(
            s.repeats for s in settings_of(make_sweep(parameters, unmeasured, settings={}))
        )
