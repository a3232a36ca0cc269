"""A digested log tells what the whole log tells."""

import json
import random
from collections import Counter

import pytest

from dfshield.runs.watching import event_log
from dfshield.runs.watching.event_digest import condensed, is_update
from dfshield.runs.watching.event_log import (
    DIGEST_FILE,
    EVENTS_FILE,
    EVENTS_FOLDER,
    EventLog,
    digested_events,
    read_events,
)
from dfshield.runs.watching.synthesis_status import synthesis_progress
from dfshield.storage import Folder, Manifest, plan_parts
from dfshield.storage.columns import FORMAT_1

SIZES = {"batch_size": 2, "part_size": 4, "shard_size": 12}


def manifest_of(seed):
    return Manifest(
        identity={},
        teacher_fingerprint="t",
        image_shape=(1, 2, 2),
        image_dtype="uint8",
        num_classes=2,
        class_names=("a", "b"),
        seed=seed,
        columns=FORMAT_1,
        engine={},
        parts=plan_parts((), split="data", num_images=48, **SIZES),
        **SIZES,
    )


MANIFESTS = [manifest_of(seed) for seed in (0, 1)]


def history(draw):
    """What drivers that are killed now and then, and workers that are lost, write of two seeds."""
    for seed in draw.choices((0, 1), k=draw.randint(1, 5)):
        for step in range(draw.randint(0, 4)):
            yield {"event": "fit_started" if not step else "fit_step", "seed": seed, "step": step}
            yield {"event": "fit_step", "seed": seed, "step": step, "total": 9, "loss": 0.5}
        yield {"event": "synthesis_started", "seed": seed, "images": 0}
        yield from synthesis(draw, seed)
        if draw.random() < 0.6:
            yield {"event": "synthesis_done", "seed": seed}
        yield {"event": "training_started", "seed": seed, "total": 9}
        for step in range(draw.randint(0, 6)):
            yield {"event": "update", "seed": seed, "step": step, "epoch": 0, "loss": step / 7}
            yield {"event": "update", "seed": seed} if draw.random() < 0.2 else {"event": "odd"}
        yield {"event": "unit_started", "worker": "worker-1", "unit": "slice 0"}
        yield {"event": "unit_done", "worker": "worker-1", "unit": "slice 0"}


def synthesis(draw, seed):
    parts, at_work = draw.sample(MANIFESTS[seed].parts, k=9), {}
    workers = [f"worker-{n}" for n in range(draw.randint(1, 4))]
    for worker in draw.sample(workers, k=len(workers) // 2):
        yield {"event": "worker_started", "worker": worker, "host": "h", "gpus": []}
    for _ in range(draw.randint(0, 40)):
        worker = draw.choice(workers)
        of_worker = {"worker": worker, "unit": at_work.get(worker)}
        if worker not in at_work:
            if not parts:
                break
            part = parts.pop()
            at_work[worker] = part.path
            yield {"event": "unit_started", **of_worker, "unit": part.path}
        elif draw.random() < 0.2:
            yield {"event": "worker_lost", **of_worker, "reason": "SIGKILL"}
            yield {"event": "unit_retried", "unit": at_work[worker]}
            yield {"event": "unit_started", **of_worker}
        elif draw.random() < 0.1:
            yield {"event": "unit_failed", **of_worker, "reason": "no"}
            del at_work[worker]
        else:
            yield {"event": "unit_done", **of_worker}
            yield {
                "event": draw.choice(("part_committed", "part_made")),
                "seed": seed,
                "path": at_work.pop(worker),
                "images": draw.choice((4, 4, None, "x", float("inf"))),
                "seconds": round(draw.random(), 3),
                "worker": worker,
            }


def dated(events):
    return [{"time": f"2026-01-01T{n:06d}", **event} for n, event in enumerate(events)]


def told(events):
    """What status and report take from events."""
    found = [events[-1:]]
    for manifest in MANIFESTS:
        for missing in (manifest.parts, manifest.parts[::2]):
            state = synthesis_progress(events, manifest, missing, at_work=True)
            found.append(rounded(state))
        updates = [e for e in events if is_update(e) and e.get("seed") == manifest.seed]
        found.append(updates[-1:])
    found.append([e for e in events if e["event"] in ("worker_lost", "training_started")])
    seconds = Counter()
    for event in events:
        if event["event"] in ("part_committed", "part_made"):
            seconds[event["seed"]] += event["seconds"]
    found.append({seed: round(amount, 6) for seed, amount in seconds.items()})
    return found


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize("seed", range(30))
def test_condensed_events_tell_the_same_however_they_are_cut(seed):
    draw = random.Random(seed)
    events = dated(history(draw))
    digest = []
    for event in events:
        digest.append(event)
        if draw.random() < 0.1:
            digest = condensed(digest)
    assert told(digest) == told(events)
    once = condensed(events)
    assert told(once) == told(events)
    assert condensed(once) == once


def test_what_is_left_of_a_log_depends_on_the_workers_and_not_on_the_parts():
    def long(parts):
        events = [{"event": "synthesis_started", "seed": 0}]
        for n in range(parts):
            unit = {"worker": f"worker-{n % 3}", "unit": f"part-{n}"}
            events += [{"event": "unit_started", **unit}, {"event": "unit_done", **unit}]
            made = {"event": "part_committed", "seed": 0, "images": 1, "seconds": 1.0}
            events.append({**made, "worker": unit["worker"], "path": unit["unit"]})
        return dated(events)

    assert len(condensed(long(30))) == len(condensed(long(3000))) < 10


@pytest.fixture(params=["local", "store"])
def root(request, tmp_path):
    folder = Folder.at(tmp_path if request.param == "local" else "memory://digest-of-a-run")
    yield folder
    folder.remove()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(event_log, "DIGEST_BYTES", 2000)
    monkeypatch.setattr(event_log, "SEGMENT_BYTES", 500)


def write(log, events):
    for event in events:
        log.emit(**event)
    log.flush()


@pytest.mark.parametrize("seed", range(2))
def test_a_digested_log_tells_what_it_holds(root, small, seed):
    draw = random.Random(seed)
    log = EventLog(root)
    for event in (e for _ in range(2) for e in history(draw)):
        log.emit(**event)
        if draw.random() < 0.1:
            log.flush()
        if draw.random() < 0.02:  # the next driver
            log.flush()
            log = EventLog(root)
            assert told(digested_events(root)) == told(read_events(root))
    log.flush()
    assert root.exists(DIGEST_FILE)
    assert told(digested_events(root)) == told(read_events(root))


def test_a_short_log_has_no_digest(root):
    write(EventLog(root), [{"event": "x"}] * 10)
    assert not root.exists(DIGEST_FILE)
    assert [e["event"] for e in digested_events(root)] == ["x"] * 10


def test_only_the_end_of_a_digested_log_is_read(root, small, monkeypatch):
    log = EventLog(root)
    write(log, [{"event": "x", "n": n} for n in range(60)])
    read = []

    def counted(folder, name, *, start=0):
        data = whole(folder, name, start=start)
        read.extend([] if name == DIGEST_FILE else [len(data)])
        return data

    whole = Folder.read_bytes
    monkeypatch.setattr(Folder, "read_bytes", counted)
    assert [e["n"] for e in digested_events(root)] == list(range(60))
    assert sum(read) < 2000 + 500 + 100


def test_a_log_of_an_earlier_release_is_digested_when_it_goes_on(tmp_path, small):
    root = Folder.at(tmp_path)
    lines = [json.dumps({"time": f"2025-{n:04d}", "event": "x", "n": n}) for n in range(100)]
    (tmp_path / EVENTS_FILE).write_text("\n".join([*lines, '{"time": "cut sh']))
    root.write_bytes(f"{EVENTS_FOLDER}/a.jsonl", b'{"time": "2024", "event": "x", "n": -1}\n')
    numbers = list(range(-1, 100))
    assert [e["n"] for e in digested_events(root)] == numbers
    assert not root.exists(DIGEST_FILE)
    write(EventLog(root), [{"event": "x", "n": 100}])
    assert root.exists(DIGEST_FILE)
    assert [e["n"] for e in digested_events(root)] == [*numbers, 100]


def test_a_line_without_its_end_counts_once(tmp_path, small):
    root = Folder.at(tmp_path)
    write(EventLog(root), [{"event": "x", "n": n} for n in range(60)])
    file = tmp_path / EVENTS_FILE
    file.write_bytes(file.read_bytes()[:-1])
    assert [e["n"] for e in digested_events(root)] == list(range(60))
    write(EventLog(root), [{"event": "x", "n": 60}])
    assert [e["n"] for e in digested_events(root)] == list(range(61))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: root.write_bytes(DIGEST_FILE, b"{"),
        lambda root: root.write_json(DIGEST_FILE, {"format_version": 2}),
        lambda root: root.write_json(DIGEST_FILE, {"events": [{"no": "time"}]}),
        lambda root: root.delete(DIGEST_FILE),
    ],
)
def test_a_digest_that_cannot_be_read_is_passed_over(root, small, spoil):
    write(EventLog(root), [{"event": "x", "n": n} for n in range(60)])
    spoil(root)
    assert [e["n"] for e in digested_events(root)] == list(range(60))


def test_a_digest_of_another_log_is_passed_over(tmp_path, small):
    root = Folder.at(tmp_path)
    write(EventLog(root), [{"event": "x", "n": n} for n in range(60)])
    for first, last in ((100, 101), (100, 900)):  # shorter, and longer
        root.delete(EVENTS_FILE)
        lines = (json.dumps({"time": "2027", "event": "x", "n": n}) for n in range(first, last))
        root.write_bytes(EVENTS_FILE, "".join(f"{line}\n" for line in lines).encode())
        assert [e["n"] for e in digested_events(root)] == list(range(first, last))


def test_two_drivers_digest_what_both_have_written(root, small):
    logs = [EventLog(root), EventLog(root)]
    for n in range(200):
        logs[n % 2].emit("x", n=n)
        logs[n % 2].flush()
    assert root.exists(DIGEST_FILE)
    assert sorted(e["n"] for e in digested_events(root)) == list(range(200))


def test_values_that_only_some_json_has_stay(root, small):
    odd = {"event": "odd", "loss": float("inf"), "text": "\udc80 ü"}
    write(EventLog(root), [odd, *({"event": "x", "n": n} for n in range(60))])
    assert root.exists(DIGEST_FILE)
    found = digested_events(root)[0]
    assert {key: found[key] for key in odd} == odd
