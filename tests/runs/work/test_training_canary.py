"""The canary of a training: workers that compute other numbers are found out before it begins."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from stopped import run_stopped
from tiny_run import run_of, succeed

from dfshield.config import load_config
from dfshield.errors import OtherDeviceError
from dfshield.runs import Engine, GroupWorker, InProcessExecutor, Run
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.work.student_trainer import make_trainer
from dfshield.runs.work.training import training_checkpoint
from dfshield.runs.work.training_canary import TrainingCanary, agreed_canary
from dfshield.storage import Folder, SurrogateDataset
from dfshield.training import SingleWorker

OTHER = "0" * 64
HERE = TrainingCanary("1" * 64, "the processor of here", on_gpu=False)
THERE = replace(HERE, digest="2" * 64, place="the processor of there")
A100, H100 = (replace(HERE, digest=d, place=d, on_gpu=True) for d in ("A100", "H100"))


class Told:
    def __init__(self):
        self.lines, self.events = [], []

    def say(self, text):
        self.lines.append(text)

    def emit(self, event, **fields):
        self.events.append((event, fields))


class Group(SingleWorker):
    def __init__(self, *found):
        self.found = found

    def all_gather(self, value):
        return list(self.found)


def agreed(*found, kept=None):
    told = Told()
    worker = GroupWorker(
        device=torch.device("cpu"),
        monitor=told,
        group=Group(*found),
        get=lambda ref: ref,
        report=lambda _: None,
        stop_requested=lambda: False,
    )
    return agreed_canary(found[0], kept, worker), told


class Stopped(InProcessExecutor):
    """Is asked to stop after an update of a training."""

    def run_group(self, job, *, engine, monitor):
        asked = iter([False])
        run_stopped(
            self, job, engine=engine, monitor=monitor, stop_requested=lambda: next(asked, True)
        )


def test_workers_that_agree_go_on_without_a_word():
    digest, told = agreed(HERE, HERE)
    assert (digest, told.lines, told.events) == (HERE.digest, [], [])
    assert agreed(HERE, kept=HERE.digest)[1].lines == []


@pytest.mark.parametrize(
    ("found", "kept", "told"),
    [
        ((A100, H100), None, "H100: computes other numbers than A100, so"),
        ((A100, A100), "H100", "A100: computes other numbers than the one that the training was"),
    ],
)
def test_gpus_of_other_numbers_are_refused_in_one_line(found, kept, told):
    with pytest.raises(OtherDeviceError, match=r"use GPUs of one model .* --replan$") as raised:
        agreed(*found, kept=kept)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


def test_processors_of_other_numbers_go_on_and_the_user_is_told():
    digest, told = agreed(HERE, THERE, THERE)
    assert digest == HERE.digest
    (line,) = told.lines
    assert line.startswith("the processor of there: computes other numbers than the processor of h")
    assert told.events == [("canary_differs", {"device": THERE.place})]


def test_a_digest_tells_one_bit_of_a_weight_and_leaves_the_trainer_as_it_is(tiny):
    config = tiny()
    settings, run = load_config(str(config), ()), run_of(config)
    data = SurrogateDataset.open(Folder.at(run / "synthetic")).load("data")
    teacher = load_classifier(Folder.at(run / "teacher"))

    def trainer(student):
        engine = Engine("cpu", 1, torch.__version__)
        return make_trainer(settings, student, teacher, data, seed=0, engine=engine)

    student = copy.deepcopy(teacher).requires_grad_(True)
    left, random_state = trainer(student), torch.get_rng_state()
    before = copy.deepcopy(left.state_dict())
    own = TrainingCanary.of(left, data, size=20)
    assert re.fullmatch("[0-9a-f]{64}", own.digest)
    assert not own.on_gpu
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in before["student"].items():
        assert torch.equal(left.state_dict()["student"][name], value)
    assert all(weight.grad is None for weight in student.parameters())
    again = TrainingCanary.of(trainer(copy.deepcopy(student)), data, size=20)
    assert again == own
    weight = next(student.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert TrainingCanary.of(trainer(student), data, size=20) != own


@pytest.mark.parametrize("replan", [False, True])
def test_a_training_that_goes_on_elsewhere_is_warned_of_and_its_student_is_the_same(
    tiny, finished, replan
):
    config = tiny(keep=("teacher", "synthetic"))
    stopped = Run(load_config(str(config), ()), executor=Stopped())
    with pytest.raises(KeyboardInterrupt):
        stopped.run(["train"])
    checkpoint = training_checkpoint(Folder.at(run_of(config) / "student"))
    state = checkpoint.load()
    assert re.fullmatch("[0-9a-f]{64}", state["canary"])
    checkpoint.save({**state, "canary": OTHER})
    answer = succeed("train", config, *(["--replan"] if replan else []))
    assert answer.err.count("computes other numbers than the one that the training") == 1 - replan
    weights = [
        run / "student" / "model.safetensors" for run in (run_of(config), finished / "runs/tiny")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
