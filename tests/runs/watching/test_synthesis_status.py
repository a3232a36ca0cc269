"""What is told of a synthesis from its events."""

import pytest
from tiny_run import run_of

from dfshield.runs.watching.synthesis_status import synthesis_progress
from dfshield.storage import Folder, read_manifest


@pytest.fixture
def manifest(tiny):
    return read_manifest(Folder.at(run_of(tiny(keep=("synthetic",))) / "synthetic"))


def log(*events):
    return [{"time": f"2026-01-01T00:00:{n:02d}", **event} for n, event in enumerate(events)]


def begun(seed=0):
    return {"event": "synthesis_started", "seed": seed}


def started(worker, part):
    return {"event": "unit_started", "worker": worker, "unit": part.path}


def committed(worker, part, seconds, seed=0):
    return {
        "event": "part_committed",
        "seed": seed,
        "path": part.path,
        "images": part.num_images,
        "seconds": seconds,
        "worker": worker,
    }


def lost(worker, part):
    return {"event": "worker_lost", "worker": worker, "unit": part.path, "reason": "SIGKILL"}


def retried(part):
    return {"event": "unit_retried", "unit": part.path}


def progress(manifest, missing, *events, at_work=True):
    return synthesis_progress(log(*events), manifest, missing, at_work=at_work)


def test_workers_rates_and_the_time_that_is_left(manifest):
    one, two, three = manifest.parts
    events = (
        begun(),
        started("a", one),
        started("b", two),
        committed("a", one, 4.0),
        started("a", three),
    )
    found = progress(manifest, [two, three], *events)
    assert [(r["part"], r["worker"]) for r in found["running"]] == [
        (two.path, "b"),
        (three.path, "a"),
    ]
    rates = {w["worker"]: w["images_per_second"] for w in found["workers"]}
    assert rates == {"a": 10.0, "b": None}
    assert found["images_per_second"] == 10.0
    assert found["eta_seconds"] == (two.num_images + three.num_images) / 10.0
    nobody = progress(manifest, [two, three], *events, at_work=False)
    assert nobody["running"] == []
    assert nobody["eta_seconds"] is None


def test_a_worker_that_was_lost_is_at_work_no_more(manifest):
    one, two, _ = manifest.parts
    found = progress(
        manifest,
        [two],
        begun(),
        started("a", one),
        committed("a", one, 4.0),
        started("a", two),
        lost("a", two),
        retried(two),
        started("b", two),
    )
    assert [r["worker"] for r in found["running"]] == ["b"]
    assert {w["worker"]: w["state"] for w in found["workers"]} == {"a": "lost", "b": "at work"}
    assert found["retries"] == 1
    assert found["images_per_second"] == 0


def test_a_part_that_failed_is_named_until_it_is_there(manifest):
    one = manifest.parts[0]
    failed = {"event": "unit_failed", "worker": "a", "unit": one.path, "reason": "given up"}
    events = (begun(), started("a", one), failed)
    (told,) = progress(manifest, [one], *events)["failed"]
    assert (told["part"], told["reason"]) == (one.path, "given up")
    assert progress(manifest, [], *events)["failed"] == []
    assert progress(manifest, [one], *events)["running"] == []
    assert progress(manifest, [one], *events, begun())["failed"] == []


def test_other_seeds_and_stages_do_not_count(manifest):
    one, two, _ = manifest.parts
    found = progress(
        manifest,
        [two],
        begun(),
        committed("a", one, 1.0),
        {"event": "synthesis_done", "seed": 0},
        begun(seed=1),
        started("b", two),
        retried(two),
        committed("b", one, 1.0, seed=1),
    )
    assert found["running"] == []
    assert found["retries"] == 0
    assert [w["worker"] for w in found["workers"]] == ["a"]


def test_events_that_lack_what_they_should_have_are_survived(manifest):
    bare = [{"event": name} for name in ("unit_started", "unit_done", "part_committed")]
    odd = {**committed("a", manifest.parts[0], "long"), "images": None}
    found = progress(manifest, manifest.parts, begun(), *bare, odd, {"event": "worker_lost"})
    assert found["eta_seconds"] is None
