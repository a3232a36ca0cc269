"""The engine trial, by injected ways of computing: right, wrong, unsteady, greedy and slow ones."""

import json
from dataclasses import replace

import pytest
import torch

from dfshield.engine.acceleration import Acceleration
from dfshield.engine.trial import Rung, Ways, run_trial
from dfshield.engine.trial_checks import Answer, Outcome

TARGET = torch.linspace(-1, 1, 50)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Descent:
    """Gradient descent on ``||x - target||^2 / 2``; a subclass computes it otherwise."""

    begins, seconds, held = 0.0, 1.0, None

    def __init__(self, clock, dtype=torch.float32):
        self.clock, self.dtype = clock, dtype

    def begin(self):
        self.clock.now += self.begins

    def gradient(self, x):
        return x - TARGET.to(self.dtype)

    def answer(self, state):
        gradient = self.gradient(self.start(state))
        return Answer(gradient, gradient.square().sum()[None] / 2, gradient[:5] + 3, attacked=1.0)

    def start(self, state):
        x = torch.zeros(50) if state is None else state
        return x.to(self.dtype)

    def run(self, state, steps):
        x = self.start(state).clone()
        for _ in range(steps):
            x -= 0.05 * self.gradient(x)
            self.clock.now += self.seconds
        total = float((x - TARGET).square().sum() / 2)
        return Outcome(x, (x,), total, agreement=0.5)

    def peak_bytes(self):
        return self.held


class Fast(Descent):
    seconds = 0.2


class Reordered(Fast):
    def gradient(self, x):
        exact = super().gradient(x)
        last_bit = torch.nextafter(exact[:1], torch.tensor(9.0, dtype=exact.dtype))
        return torch.cat([last_bit, exact[1:]])


class Rounded(Fast):
    def gradient(self, x):
        return super().gradient(x).bfloat16().float()


class Scaled(Fast):
    def gradient(self, x):
        return 1.01 * super().gradient(x)


class Long(Fast):
    def gradient(self, x):
        return 1.06 * super().gradient(x)


class NotFinite(Fast):
    def gradient(self, x):
        return super().gradient(x) * float("nan")


class Noisy(Fast):
    def gradient(self, x):
        return super().gradient(x) + 1e-8 * torch.randn(50)


class Forgetful(Fast):
    """Starts its own count of steps again when it goes on from a state."""

    def run(self, state, steps):
        done = super().run(state, steps)
        x = done.tensors[0] + 1e-7 * steps**2
        return Outcome(x, (x,), done.total, 0.5)


class Undecided(Fast):
    def run(self, state, steps):
        done = super().run(state, steps)
        return Outcome(done.state, done.tensors, done.total, agreement=0.53)


class Weak(Fast):
    def answer(self, state):
        return replace(super().answer(state), attacked=0.98)


class OtherStatistics(Fast):
    def answer(self, state):
        found = super().answer(state)
        return replace(found, statistics=found.statistics * 1.02)


class OutOfMemory(Fast):
    def answer(self, state):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


class NoCompiler(Fast):
    def begin(self):
        raise RuntimeError("no C++ compiler\nwas found")


class Greedy(Fast):
    held = 9 << 30


class Slow(Descent):
    seconds = 0.8


class LateToBegin(Fast):
    begins = 3000.0


class Broken(Fast):
    def begin(self):
        raise torch.AcceleratorError("an illegal memory access was encountered")


def tried(*ways, iterations=10_000.0, kinds=None, exact=Descent):
    """Return the trial of some ways against the plain one."""
    clock = Clock()
    kinds = kinds or ["float32"] * len(ways)
    rungs = [
        Rung(way.__name__, {"compiled": True, "way": way.__name__}, kind, lambda w=way: w(clock))
        for way, kind in zip(ways, kinds, strict=True)
    ]
    return run_trial(
        Ways(Descent(clock), exact(clock, torch.float64), faster=lambda _: Fast(clock)),
        rungs,
        iterations=iterations,
        memory=10 << 30,
        clock=clock,
    )


@pytest.mark.parametrize(
    ("way", "kind"),
    [(Fast, "same"), (Fast, "float32"), (Reordered, "float32"), (Rounded, "rounded")],
)
def test_a_way_that_is_right_and_fast_is_chosen(way, kind):
    trial = tried(way, kinds=[kind])
    assert trial.engine == {"compiled": True, "way": way.__name__}
    (report,) = trial.rungs
    assert report.verdict == "chosen"
    assert report.seconds == pytest.approx(0.2)
    assert trial.plain_seconds == pytest.approx(1.0)
    assert json.loads(json.dumps(trial.to_json()))["rungs"][0]["verdict"] == "chosen"


@pytest.mark.parametrize(
    ("way", "kind", "reason"),
    [
        (Reordered, "same", "to the byte"),
        (Rounded, "float32", "times the plain way's"),
        (Scaled, "float32", "times the plain way's"),
        (Long, "rounded", "1.060 times as long"),
        (NotFinite, "rounded", "not finite"),
        (Noisy, "rounded", "other bytes each time"),
        (Forgetful, "rounded", "goes on from a state"),
        (Undecided, "rounded", "agreement rate is off by 3.0 points"),
        (Weak, "rounded", "attacks are weaker"),
        (OtherStatistics, "rounded", "BatchNorm statistics are off by 2.0e-02"),
        (OutOfMemory, "rounded", "out of memory"),
        (NoCompiler, "rounded", "no C++ compiler was found"),
        (Greedy, "rounded", "holds 9.0 GiB of a share of 10.0 GiB"),
        (Slow, "rounded", "1.25 times as fast"),
        (LateToBegin, "rounded", "takes 3000 s to begin"),
    ],
)
def test_a_way_that_fails_leaves_the_plain_one_with_its_reason(way, kind, reason):
    trial = tried(way, kinds=[kind])
    assert trial.engine == {}
    (report,) = trial.rungs
    assert report.verdict == "failed"
    assert reason in report.reason
    assert "\n" not in report.reason
    assert trial.failures == [f"{way.__name__}: {report.reason}"]


def test_the_fastest_of_those_that_pass_is_chosen():
    class Faster(Fast):
        seconds, begins = 0.1, 400.0

    assert tried(Fast, Noisy, Faster).engine["way"] == "Faster"
    # Over fewer iterations what it takes to begin counts for more.
    assert tried(Fast, Noisy, Faster, iterations=3000.0).engine["way"] == "Fast"


def test_short_work_is_not_tried():
    class Never(Fast):
        def begin(self):
            raise AssertionError("nothing is compiled for short work")

    trial = tried(Never, iterations=500.0)
    assert trial.engine == {}
    assert trial.rungs == ()


def test_a_gpu_that_breaks_ends_the_trial():
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        tried(Broken, Fast)


def test_without_float64_there_is_nothing_to_compare_with():
    class NoDouble(Descent):
        def begin(self):
            raise RuntimeError("expected scalar type Float but found Double")

    trial = tried(Fast, exact=NoDouble)
    assert trial.engine == {}
    assert "nothing to compare with: expected scalar type Float" in trial.rungs[0].reason


def test_a_rung_is_named_and_held_to_what_its_acceleration_allows():
    rung = Rung.of(Acceleration("bfloat16", compiled=True), lambda _: Fast(Clock()))
    assert (rung.name, rung.kind) == ("compiled bfloat16", "rounded")
    assert rung.engine == {"precision": "bfloat16", "compiled": True}
    assert Rung.of(Acceleration("float32", compiled=True), rung.make).kind == "float32"


def test_the_verdict_is_told_in_a_line():
    trial = tried(Fast, Noisy)
    assert trial.chosen == "Fast is taken, 5.0 times as fast as the plain way"
    assert tried(Slow).chosen == "the plain way is taken"
