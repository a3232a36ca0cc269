"""How a run's engine is chosen, that it binds what is begun, and runs on the fast path."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_run import call, run_of, succeed

from dfshield.attacks import A3, FGSM, PGD, AutoAttack
from dfshield.classifiers import build
from dfshield.config import EngineConfig, load_config
from dfshield.engine.numerics import Accelerator
from dfshield.errors import InputError
from dfshield.runs import Abilities, Engine, InProcessExecutor, Run
from dfshield.runs.execution import engine_choice
from dfshield.runs.execution.engine_choice import (
    COMPILING_PAYS,
    multiplies_bfloat16,
    multiply_adds,
    planned_engine,
)
from dfshield.runs.work.attack_engine import attack_engine, plain_images

HERE = Engine(device="cpu", threads=2, torch=torch.__version__)
AUTO = EngineConfig()


def test_short_work_and_work_on_gpus_is_planned_plain():
    assert planned_engine(HERE, AUTO, work=0.9 * COMPILING_PAYS) == HERE
    gpu = Engine(device="cuda", threads=2, torch=torch.__version__)
    assert planned_engine(gpu, AUTO, work=1e30) == gpu


def test_long_work_on_cpus_is_compiled():
    engine = planned_engine(HERE, AUTO, work=COMPILING_PAYS)
    assert engine.compiled
    assert engine.precision == ("bfloat16" if multiplies_bfloat16() else "float32")
    assert (engine.device, engine.threads, engine.batches_per_pass) == ("cpu", 2, 1)


def test_long_work_without_a_compiler_is_planned_plain(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert planned_engine(HERE, AUTO, work=COMPILING_PAYS) == HERE


@pytest.mark.parametrize(
    ("able", "compiled", "precision"),
    [
        (Abilities(compiles=False, multiplies_bfloat16=True), False, "float32"),
        (Abilities(compiles=True, multiplies_bfloat16=False), True, "float32"),
        (Abilities(compiles=True, multiplies_bfloat16=True), True, "bfloat16"),
    ],
)
def test_what_the_workers_can_do_counts_and_not_what_this_machine_can(able, compiled, precision):
    engine = planned_engine(HERE, AUTO, work=COMPILING_PAYS, can=lambda: able)
    assert (engine.compiled, engine.precision) == (compiled, precision)


def test_workers_are_not_asked_where_it_does_not_matter():
    asked = []
    planned_engine(HERE, AUTO, work=0.9 * COMPILING_PAYS, can=lambda: asked.append(1))
    planned_engine(HERE, AUTO, work=1e30, bound=HERE.to_json(), can=lambda: asked.append(1))
    planned_engine(replace(HERE, device="cuda"), AUTO, work=1e30, can=lambda: asked.append(1))
    assert asked == []


class Elsewhere(InProcessExecutor):
    """Has workers that cannot do what this machine can."""

    def abilities(self):
        return Abilities(compiles=False, multiplies_bfloat16=False)


def test_every_stage_asks_the_workers(tiny, monkeypatch):
    """Images, student and attacks, all long: no stage goes by this machine's compiler."""
    monkeypatch.setattr(engine_choice, "COMPILING_PAYS", 0.0)  # that of trials stays as it is
    config = tiny(keep=("teacher",), training__epochs=1, evaluation__models=["student"])
    Run(load_config(str(config), ()), executor=Elsewhere()).run(["synthesize", "train", "evaluate"])
    run = run_of(config)
    student = json.loads((run / "student" / "stage.json").read_text())["engine"]
    slices = [json.loads(file.read_text()) for file in run.rglob("slices/*/*.json")]
    assert slices
    engines = [engine_of(run), student, *(of_slice["engine"] for of_slice in slices)]
    assert not any(engine["compiled"] for engine in engines)


@pytest.mark.parametrize(
    ("capability", "precision"), [(None, "tf32"), ("7.5", "tf32"), ("7.5", "bfloat16")]
)
def test_a_precision_that_the_place_does_not_multiply_in_is_refused(capability, precision):
    here = HERE
    if capability:
        here = replace(HERE, device="cuda", accelerator=Accelerator("T4", capability, 90000))
    with pytest.raises(InputError, match=f"engine.precision: {precision} "):
        planned_engine(here, EngineConfig(precision=precision), work=0.0)


def test_what_is_asked_for_goes_before_what_pays_and_before_what_was_begun():
    asked = EngineConfig(precision="bfloat16", compile=False, batches_per_pass=3)
    engine = planned_engine(HERE, asked, work=1e30, bound=HERE.to_json())
    assert (engine.precision, engine.compiled, engine.batches_per_pass) == ("bfloat16", False, 3)


def test_what_was_begun_goes_before_what_pays():
    begun = Engine(
        device="cpu",
        threads=1,
        torch="2.0",
        precision="bfloat16",
        compiled=True,
        batches_per_pass=4,
    )
    engine = planned_engine(HERE, AUTO, work=0.0, bound=begun.to_json())
    assert (engine.precision, engine.compiled, engine.batches_per_pass) == ("bfloat16", True, 4)
    assert (engine.threads, engine.torch) == (HERE.threads, HERE.torch)  # these are the place's


def test_of_the_attacks_a_long_pgd_is_compiled_and_in_float32():
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=3, mean=[0.5], std=[0.5])
    pgd = PGD(eps=0.1, num_steps=20, restarts=2)
    long = int(COMPILING_PAYS / (2 * 20 * 2) / multiply_adds(teacher))
    assert attack_engine(HERE, teacher, pgd, 1 + long) == replace(HERE, compiled=True)
    assert attack_engine(HERE, teacher, pgd, long - 1) == HERE
    for attack in (None, FGSM(eps=0.1), A3(eps=0.1)):
        assert attack_engine(HERE, teacher, attack, 100 * long) == HERE


def test_autoattack_is_compiled_where_it_may_be_long_but_not_at_once():
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=3, mean=[0.5], std=[0.5])
    attack, of_one = AutoAttack(eps=0.1), multiply_adds(teacher)
    assert attack.passes == 200 + 9 * 200 + 9 * 300 + 5000
    long = int(COMPILING_PAYS / attack.passes / of_one)
    assert attack_engine(HERE, teacher, attack, 1 + long) == replace(HERE, compiled=True)
    assert attack_engine(HERE, teacher, attack, long - 1) == HERE
    first = plain_images(teacher, attack)
    assert first[False] * of_one == pytest.approx(COMPILING_PAYS / 10, rel=0.01)
    assert first[True] * 2 * of_one == pytest.approx(COMPILING_PAYS / 10, rel=0.01)
    assert plain_images(teacher, PGD(eps=0.1))[True] == 0


def test_multiply_adds_are_those_of_the_convolutions_and_the_last_layer():
    teacher = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=3, mean=[0.5], std=[0.5])
    expected = 0.0

    def count(layer, _inputs, output):
        nonlocal expected
        expected += output.numel() * layer.weight[0].numel()

    counted = [m for m in teacher.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in counted]
    with torch.no_grad():
        teacher(torch.zeros(1, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    assert multiply_adds(teacher) == expected


@pytest.fixture
def fast(tiny):
    """A configuration whose synthesis and training take the fast path, without compiling."""
    return tiny(
        keep=("teacher",),
        synthesis__engine={"precision": "bfloat16", "batches_per_pass": 2},
        training__engine={"precision": "bfloat16", "batches_per_pass": 2},
    )


def engine_of(run):
    return json.loads((run / "synthetic" / "manifest.json").read_text())["engine"]


def test_a_run_on_the_fast_path_is_bound_to_it(fast):
    run = run_of(fast)
    succeed("run", fast)
    assert engine_of(run)["precision"] == "bfloat16"
    assert engine_of(run)["batches_per_pass"] == 2
    assert json.loads((run / "student" / "stage.json").read_text())["engine"]["compiled"] is False
    whole = {f: f.read_bytes() for f in sorted((run / "synthetic").rglob("*.parquet"))}
    # A part that is lost is made again with its company, to the byte, also where the file no
    # longer asks for it.
    lost = next(iter(whole))
    lost.unlink()
    changes = ("synthesis.engine.precision=auto", "synthesis.engine.batches_per_pass=null")
    succeed("synthesize", fast, *changes)
    assert lost.read_bytes() == whole[lost]
    answer = succeed("verify", run, "--resynthesize", "1000")
    assert "0 differ" in answer.out


def test_another_precision_for_what_is_begun_is_refused_unless_replanned(fast):
    succeed("synthesize", fast)
    run = run_of(fast)
    next((run / "synthetic" / "data").rglob("*.parquet")).unlink()
    change = "synthesis.engine.precision=float32"
    line = call("synthesize", fast, change).refusal()
    assert "precision: bfloat16 → float32" in line
    assert "--replan" in line
    succeed("synthesize", fast, change, "--replan")
    assert engine_of(run)["precision"] == "float32"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("synthesis.engine.precision=half", "synthesis.engine.precision"),
        ("training.engine.compile=maybe", "training.engine.compile"),
        ("synthesis.engine.batches_per_pass=0", "synthesis.engine.batches_per_pass"),
        ("training.engine.dtype=bfloat16", "training.engine.dtype"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(tiny, override, told):
    assert told in call("run", tiny(keep=("teacher",)), override).refusal()
