"""CUDA graphs of plain passes: recorded once and replayed, to the bytes of what is not."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfshield.config import EngineConfig
from dfshield.engine.acceleration import Acceleration, CompilationError
from dfshield.engine.cuda_graph import WARM_UP, GraphedFunction, GraphedModel
from dfshield.engine.numerics import Accelerator
from dfshield.engine.trial import Rung, expected_of
from dfshield.engine.trial_checks import check_answers, check_end, check_repeats
from dfshield.errors import InputError
from dfshield.runs import Engine
from dfshield.runs.execution.engine_choice import planned_engine
from dfshield.runs.work import engine_trial
from dfshield.synthesis import DSS
from dfshield.training import AdversarialTrainer, InnerMaximization, SoftLabelObjective
from dfshield.training.trial import TrialImages, training_ways
from recorded_graphs import CAPTURED, REPLAYED, pretend
from small_classifier import SHAPE, SIZE, classifier, images

GRAPHED = Acceleration(graphed=True)


@pytest.fixture
def counted(monkeypatch):
    return pretend(monkeypatch)


class Reading(nn.Module):
    """A layer of a user's that looks at its numbers."""

    def forward(self, x):
        return x if float(x.detach().mean()) > 1e9 else x.relu()


def training(student, *, acceleration=None, together=1, norm="linf"):
    x = images(4 * SIZE)
    with torch.no_grad():
        logits = classifier(1)(x)
    student.requires_grad_(True)
    return AdversarialTrainer(
        student,
        images=x,
        labels=logits.argmax(1),
        teacher_logits=logits,
        optimizer=torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9),
        objective=SoftLabelObjective(),
        inner=InnerMaximization(eps=0.1, num_steps=3, norm=norm),
        epochs=1000,
        batch_size=SIZE,
        num_batches=2,
        acceleration=acceleration,
        batches_per_pass=together,
    )


def test_a_function_is_recorded_once_and_its_inputs_are_copied_in(counted):
    calls, weights = [], torch.ones(3)

    def function(x, y):
        calls.append(1)
        return (weights * x + y).sum(), x - y

    given = torch.arange(3.0), torch.ones(3)
    replayed = GraphedFunction(function, given, "this")
    assert (len(calls), counted[CAPTURED]) == (WARM_UP + 1, 1)
    for shift in range(3):
        x, y = torch.arange(3.0) + shift, torch.full((3,), float(shift))
        found = [t.clone() for t in replayed(x, y)]
        assert all(map(torch.equal, found, function(x, y)))
        weights.mul_(2.0)  # in its place: the next replay goes by it
    assert counted[REPLAYED] == 3
    assert torch.equal(given[0], torch.arange(3.0))


def test_a_model_gives_logits_and_gradients_of_the_plain_one_as_its_weights_move(counted):
    model = classifier().requires_grad_(True)
    graphed = GraphedModel(model, image_shape=SHAPE, size=SIZE).eval()
    assert counted[CAPTURED] == 2
    for _ in range(3):
        found = []
        for one in (model, graphed):
            x = images().requires_grad_()
            logits = one(x)
            found.append((logits.detach().clone(), *torch.autograd.grad(logits.exp().sum(), [x])))
        assert all(map(torch.equal, *found))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)
    assert counted[REPLAYED] == 6
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_other_passes_are_computed_as_ever(counted):
    model = classifier()
    graphed = GraphedModel(model, image_shape=SHAPE, size=SIZE).eval()
    with torch.no_grad():
        assert torch.equal(graphed(images()), model(images()))
    assert torch.equal(graphed(images(4).requires_grad_()), model(images(4)))
    graphed.train()(images().requires_grad_())
    assert counted[REPLAYED] == 0


@pytest.mark.parametrize("num_batches", [1, 2])
def test_images_of_a_replayed_inversion_are_those_of_the_same_passes(counted, num_batches):
    method = DSS(iterations=5, jitter=2)
    made = []
    for acceleration in (None, GRAPHED):
        bound = method.bind(classifier(), acceleration=acceleration, full_pass=(num_batches, SIZE))
        of_run = bound.synthesize_batches(seed=3, batches=range(num_batches), size=SIZE)
        short = bound.synthesize(seed=3, batch=9, size=4)  # goes without
        made.append([*of_run, short])
    for plain, graphed in zip(*made, strict=True):
        assert torch.equal(plain.images, graphed.images)
        assert plain.record == graphed.record
    assert counted == {CAPTURED: 1, REPLAYED: 5}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("together", [1, 2])
def test_a_student_whose_attacks_are_replayed_is_that_of_plain_ones(counted, norm, together):
    students = []
    for acceleration in (None, GRAPHED):
        student = classifier()
        trainer = training(student, acceleration=acceleration, together=together, norm=norm)
        for _ in range(4):
            trainer.step()
        students.append(student.state_dict())
    for name, value in students[0].items():
        assert torch.equal(students[1][name], value), name
    assert counted == {CAPTURED: 2, REPLAYED: 2 * 3 * 8 // together}


def test_the_trial_holds_it_to_the_bytes_of_the_plain_way(counted):
    bound = DSS(iterations=5, jitter=2).bind(classifier())
    ways = bound.trial_ways(seed=5, num_batches=1, size=SIZE, iterations=20)
    x = images(2 * SIZE)
    with torch.no_grad():
        logits = classifier(1)(x)
    batch = TrialImages(x, logits.argmax(1), logits, SIZE)
    for tried in (ways, training_ways(lambda a: training(classifier(), acceleration=a), batch)):
        tried.plain.begin()
        expected = expected_of(tried, 5)
        rung = Rung.of(GRAPHED, tried.faster)
        assert (rung.name, rung.kind) == ("float32 in a CUDA graph", "same")
        assert rung.engine == {"precision": "float32", "compiled": False, "graphed": True}
        before, way = counted[REPLAYED], rung.make()
        way.begin()
        for check in (check_answers, check_repeats, check_end):
            assert list(check(way, rung.kind, expected)) == []
        assert counted[REPLAYED] > before


def test_a_network_that_waits_for_the_gpu_cannot_be_recorded_and_says_so(counted):
    told = r"cannot be recorded as a CUDA graph here: .* not permitted .*engine.compile=false$"
    bound = DSS(iterations=5).bind(classifier(activation=Reading()), acceleration=GRAPHED)
    with pytest.raises(CompilationError, match=rf"^the inversion of this classifier {told}"):
        bound.synthesize(seed=0, batch=0, size=SIZE)
    with pytest.raises(CompilationError, match=rf"^this student {told}"):
        training(classifier(activation=Reading()), acceleration=GRAPHED)
    bound = DSS(iterations=5).bind(classifier(activation=Reading()))
    bound.synthesize(seed=0, batch=0, size=SIZE)


def test_memory_that_runs_out_as_work_is_recorded_is_told_as_such(counted):
    calls = []

    def function(x):
        calls.append(1)
        if len(calls) > WARM_UP:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (2 * x,)

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        GraphedFunction(function, (torch.ones(3),), "this")


def test_an_engine_tells_of_graphs_only_where_it_has_them_and_begun_work_keeps_them():
    gpu = Engine("cuda", 1, "2", accelerator=Accelerator("H200", "9.0", 90000))
    assert "graphed" not in gpu.to_json()
    begun = replace(gpu, graphed=True)
    assert Engine.from_json(json.loads(json.dumps(begun.to_json()))) == begun
    assert begun.acceleration == GRAPHED
    kept = planned_engine(gpu, EngineConfig(), work=0.0, bound=begun.to_json())
    assert kept.graphed
    for options in (EngineConfig(compile=False), EngineConfig(precision="bfloat16")):
        assert not planned_engine(gpu, options, work=0.0, bound=begun.to_json()).graphed
    cpu = Engine("cpu", 1, "2")
    assert not planned_engine(cpu, EngineConfig(), work=0.0, bound=begun.to_json()).graphed


def test_whoever_asks_for_graphs_gets_them_on_gpus_and_plain_passes_alone():
    gpu = Engine("cuda", 1, "2", accelerator=Accelerator("H200", "9.0", 90000))
    asked = EngineConfig(compile="graph")
    assert planned_engine(gpu, asked, work=1e30) == replace(gpu, graphed=True)
    with pytest.raises(InputError, match=r"engine\.compile: graph is for GPUs"):
        planned_engine(Engine("cpu", 1, "2"), asked, work=1e30)
    with pytest.raises(InputError, match=r"engine\.compile: graph replays plain passes"):
        planned_engine(gpu, EngineConfig(compile="graph", precision="bfloat16"), work=1e30)


def test_graphs_are_tried_first_on_gpus_and_never_on_cpus(monkeypatch):
    def tried(gpu):
        monkeypatch.setattr(engine_trial, "accelerator_of", lambda _: gpu)
        return engine_trial.accelerations(EngineConfig(), torch.device("cpu"))

    assert tried(Accelerator("H200", "9.0", 90000))[0] == GRAPHED
    assert not any(acceleration.graphed for acceleration in tried(None))


def test_only_plain_passes_are_recorded():
    with pytest.raises(InputError, match="graphed"):
        Acceleration("float32", compiled=True, graphed=True)
