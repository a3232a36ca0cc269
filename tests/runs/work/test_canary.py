"""The canary of a data set: who computes other bytes than the worker that began is found out."""

import json
import re
from contextlib import nullcontext

import pytest
import torch
from tiny_run import call, contents, events, parts, run_of, succeed

from dfshield.errors import OtherDeviceError
from dfshield.runs import Engine, SilentMonitor
from dfshield.runs.execution.protocol import Worker
from dfshield.runs.inputs.classifier_folder import load_classifier
from dfshield.runs.inputs.synthesizer import recorded_synthesis
from dfshield.runs.work.canary import DIFFERS, MADE, canary_of, require_canary
from dfshield.runs.work.passes import bound_synthesizer
from dfshield.storage import Folder, SurrogateDataset, write_manifest

OTHER = "0" * 64


def data_of(run):
    return SurrogateDataset.open(Folder.at(run / "synthetic"))


def give_canary(run, canary):
    data = data_of(run)
    write_manifest(data.folder, data.manifest.model_copy(update={"canary": canary}))


def lose_a_part(run):
    file = parts(run)["data/shard=00000/part-0001.parquet"]
    file.unlink()
    return file


def bound(run):
    """The synthesizer of a run, and its manifest."""
    data = data_of(run)
    teacher = load_classifier(Folder.at(run / "teacher"))
    engine = Engine.from_json(data.manifest.engine)
    settings = recorded_synthesis(data.manifest.identity)
    return bound_synthesizer(settings, teacher, engine, data.folder), data.manifest


def test_a_data_set_keeps_what_its_first_worker_computed_and_another_one_agrees(tiny):
    run = run_of(tiny())
    synthesizer, manifest = bound(run)
    assert re.fullmatch("[0-9a-f]{64}", manifest.canary)
    assert [e["digest"] for e in events(run, MADE)] == [manifest.canary]
    random_state = torch.get_rng_state()
    assert canary_of(synthesizer, manifest) == manifest.canary
    assert torch.equal(torch.get_rng_state(), random_state)
    without = manifest.model_copy(update={"canary": None})
    assert without.fingerprint() == manifest.fingerprint()  # no image depends on it


def test_a_change_of_one_weight_in_the_last_bit_is_another_canary(tiny):
    run = run_of(tiny())
    synthesizer, manifest = bound(run)
    weight = next(synthesizer.teacher.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert canary_of(synthesizer, manifest) != manifest.canary


def test_another_gpu_is_refused_in_one_line(tiny):
    run = run_of(tiny())
    synthesizer, manifest = bound(run)
    worker = Worker(torch.device("cuda"), SilentMonitor(), put=lambda _: None)
    require_canary(synthesizer, manifest, worker)
    other = manifest.model_copy(update={"canary": OTHER})
    with pytest.raises(OtherDeviceError, match=r"canary .* differs\): use GPUs of one") as raised:
        require_canary(synthesizer, other, worker)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("device", "refused"), [("cuda", True), ("cpu", False)])
def test_of_a_set_that_begins_the_first_worker_decides_and_all_tell(tiny, device, refused):
    synthesizer, manifest = bound(run_of(tiny()))
    given, told = {}, []
    monitor = SilentMonitor()
    monitor.emit = lambda event, **fields: told.append((event, fields))
    worker = Worker(torch.device(device), monitor, put=lambda _: None, first=given.setdefault)
    without = manifest.model_copy(update={"canary": OTHER})  # of before a replan
    for _ in range(2):
        require_canary(synthesizer, without, worker, begins=True)
    assert list(given.values()) == [manifest.canary]
    assert told == [(MADE, {"digest": manifest.canary})] * 2
    (key,) = given
    given[key] = OTHER  # as another worker came to
    with pytest.raises(OtherDeviceError) if refused else nullcontext():
        require_canary(synthesizer, without, worker, begins=True)
    assert told[2] == (MADE, {"digest": OTHER})
    assert [event for event, _ in told[3:]] == ([] if refused else [DIFFERS])


def test_another_processor_goes_on_and_the_user_is_warned_once(tiny):
    config = tiny()
    run = run_of(config)
    give_canary(run, OTHER)
    for name in ("data/shard=00000/part-0000.parquet", "holdout/part-0000.parquet"):
        parts(run)[name].unlink()
    answer = succeed("synthesize", config)
    assert (
        answer.err.count("computes other numbers than the one that the images were begun on") == 1
    )
    assert data_of(run).manifest.canary == OTHER  # of the worker that began
    line = call("verify", run, "--resynthesize", 5, "--repair").refusal(3)
    assert "make them again where they were made" in line
    assert len(parts(run)) == 3  # nothing was taken for wrong


def test_the_same_processor_is_not_warned_of_and_makes_the_same_bytes(tiny):
    config = tiny()
    run = run_of(config)
    lost = lose_a_part(run)
    assert "computes other numbers" not in succeed("synthesize", config).err
    assert lost.exists()


@pytest.mark.parametrize("replan", [False, True])
def test_a_set_without_a_canary_goes_on_without_one_unless_it_is_replanned(tiny, replan):
    config = tiny()
    run = run_of(config)
    before, canary = contents(run / "synthetic" / "data"), data_of(run).manifest.canary
    give_canary(run, None)
    assert "canary" not in json.loads((run / "synthetic" / "manifest.json").read_text())
    lose_a_part(run)
    succeed("synthesize", config, *(["--replan"] if replan else []))
    assert data_of(run).manifest.canary == (canary if replan else None)
    assert contents(run / "synthetic" / "data") == before
