"""The ways of the inversion that an engine trial compares, on a small network."""

import pytest
import torch

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import MOST_STEPS, Rung, expected_of, run_trial
from dfshield.engine.trial_checks import check_answers, check_end, check_repeats
from dfshield.synthesis import DSS, IntraQ

SIZE, STEPS = 6, 10


def ways_of(teacher, num_batches, *, alone=False):
    bound = DSS(iterations=5, jitter=2).bind(teacher)
    return bound.trial_ways(
        seed=5, num_batches=num_batches, size=SIZE, iterations=4 * STEPS, alone=alone
    )


@pytest.fixture(params=[(1, False), (2, False), (2, True)])
def ways(teacher, request):
    num_batches, alone = request.param
    return ways_of(teacher, num_batches, alone=alone)


def expected(ways):
    ways.plain.begin()
    return expected_of(ways, STEPS)


def test_float64_gives_the_gradient_of_the_plain_way_and_more_digits(ways):
    for plain, exact in zip(*(lambda e: (e.answers, e.exact))(expected(ways)), strict=True):
        assert exact.gradient.dtype == torch.float64
        torch.testing.assert_close(plain.gradient.double(), exact.gradient, rtol=1e-3, atol=1e-6)
        assert not torch.equal(plain.gradient.double(), exact.gradient)
        torch.testing.assert_close(plain.terms.double(), exact.terms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("precision", "kind"), [("float32", "float32"), ("bfloat16", "rounded")])
def test_the_fast_path_passes_every_check(ways, precision, kind):
    way, wanted = ways.faster(Acceleration(precision)), expected(ways)
    way.begin()
    for check in (check_answers, check_repeats, check_end):
        assert list(check(way, kind, wanted)) == []
    assert way.peak_bytes() is None


def test_products_in_bfloat16_do_not_pass_for_float32(ways):
    way, wanted = ways.faster(Acceleration("bfloat16")), expected(ways)
    way.begin()
    assert any(
        "times the plain way's" in problem for problem in check_answers(way, "float32", wanted)
    )


def test_a_run_in_two_pieces_is_the_run_in_one(ways):
    ways.plain.begin()
    whole = ways.plain.run(None, STEPS)
    first = ways.plain.run(None, 3).state
    assert all(map(torch.equal, ways.plain.run(first, STEPS - 3).tensors, whole.tensors))


def test_batches_that_go_alone_are_those_of_passes_of_their_own(teacher):
    alone, first = ways_of(teacher, 2, alone=True).plain, ways_of(teacher, 1).plain
    for way in (alone, first):
        way.begin()
    both, one = alone.run(None, STEPS), first.run(None, STEPS)
    assert torch.equal(both.tensors[0][:SIZE], one.tensors[0])
    answers = alone.answer(both.state), first.answer(one.state)
    assert torch.equal(answers[0].gradient[: len(answers[1].gradient)], answers[1].gradient)
    assert torch.equal(answers[0].terms[:4], answers[1].terms)
    assert not torch.equal(both.tensors[0][SIZE:], one.tensors[0])


@pytest.mark.drill
def test_the_trial_of_the_compiled_inversion_finds_no_wrong_number(teacher):
    bound = DSS(iterations=5, jitter=2).bind(teacher)
    ways = bound.trial_ways(seed=5, num_batches=1, size=SIZE, iterations=2 * MOST_STEPS)
    rungs = [Rung.of(Acceleration(compiled=True), ways.faster)]
    trial = run_trial(ways, rungs, iterations=1e9, long=0.0)
    (report,) = trial.rungs
    assert trial.plain_seconds > 0
    assert report.seconds_to_begin > 0
    # How fast it is depends on the machine; that it is right does not.
    assert report.seconds > 0
    assert report.reason == "" or "times as fast" in report.reason


def test_what_is_not_accelerated_has_one_way_only(teacher):
    bound = IntraQ().bind(teacher)
    assert bound.trial_ways(seed=0, num_batches=1, size=SIZE, iterations=4) is None
