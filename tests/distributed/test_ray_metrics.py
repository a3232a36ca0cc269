"""The run's metrics on a node's Prometheus endpoint, and the Grafana dashboard that shows them."""

import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import ray.util.metrics
from ray_head import running_head
from tiny_run import ended, run_of, start

from dfshield.config import load_config
from dfshield.distributed.metrics import RayMetrics
from dfshield.runs import Run
from dfshield.trackers import Point

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana.json"


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture
def gauges(monkeypatch):
    """What gauges of Ray were set to, by name and tags."""
    values = {}

    class Gauge:
        def __init__(self, name, description, tag_keys):
            assert description
            self.name, self.tag_keys = name, tag_keys

        def set(self, value, tags):
            assert tuple(tags) == self.tag_keys
            values[f"ray_{self.name}", tuple(tags.values())] = value

    monkeypatch.setattr(ray.util.metrics, "Gauge", Gauge)
    return values


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_shows_exactly_what_is_exported(dashboard, gauges, tiny, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    config = load_config(tiny(keep=("teacher",)))
    Run(config, trackers={"ray": lambda: RayMetrics("tiny", (0,))}).run()
    shown = set(re.findall(r"\bray_dfshield_\w+", " ".join(queries(dashboard))))
    assert shown == {name for name, _ in gauges}
    assert gauges["ray_dfshield_holdout_collapsed", ("tiny", "0")] in (0, 1)
    accuracy = ("tiny", "0", "student", "PGD-3")
    assert 0 <= gauges["ray_dfshield_evaluation_accuracy", accuracy] <= 1


def test_seeds_are_tags(gauges, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    metrics = RayMetrics("mine", (3, 4))
    metrics.log(Point("seed-3/train", {"loss": 2.5}, 7))
    metrics.log(Point("seed-4/train", {"loss": 1.5}, 7))
    expected = {
        ("ray_dfshield_train_loss", ("mine", "3")): 2.5,
        ("ray_dfshield_train_loss", ("mine", "4")): 1.5,
    }
    assert gauges == expected
    gauges.clear()  # as Ray does with those that are not set for a while
    metrics.flush()
    assert gauges == expected


def test_without_ray_there_are_no_gauges(gauges):
    assert not ray.is_initialized()
    RayMetrics("mine", (3,)).log(Point("train", {"loss": 1.5}, 7))
    assert gauges == {}


def test_the_dashboard_can_be_imported_anywhere(dashboard):
    assert dashboard["schemaVersion"] >= 36
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    panels = dashboard["panels"]
    for source in (*panels, *(target for panel in panels for target in panel["targets"])):
        assert source["datasource"]["uid"] == "${datasource}"
    known = {f"${name}" for name in variables} | {"$__range"}
    assert set(re.findall(r"\$\w+", " ".join(queries(dashboard)))) <= known
    assert any("ray_node_gpus_utilization" in query for query in queries(dashboard))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_panels_do_not_overlap(dashboard):
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


# ---------------------------------------------------------------- a real cluster


@pytest.fixture
def head():
    """A running Ray and the address of its node's metrics."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    # For the driver as well: a node forgets what was not reported within two of its own intervals.
    often = {"RAY_metrics_report_interval_ms": "500"}
    with running_head(often, options=[f"--metrics-export-port={port}"]) as env:
        yield env | often, f"http://127.0.0.1:{port}/metrics"


def scraped(address):
    """The samples of the endpoint that are ours: tags and value by name."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    samples = re.findall(r"^(ray_dfshield_\w+)\{(.*)\} (\S+)$", text, flags=re.MULTILINE)
    return {name: (dict(re.findall(r'(\w+)="(.*?)"', t)), float(v)) for name, t, v in samples}


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_shows_how_a_run_goes_and_keeps_nothing_of_it(tiny, head, drive):
    env, address = head
    config = tiny(
        keep=("teacher", "synthetic"), training__epochs=100_000, training__engine__compile=False
    )
    process = start("train", config, "cluster.address=auto", env=env)
    wanted = {
        "ray_dfshield_train_loss",
        "ray_dfshield_train_agreement_rate",
        "ray_dfshield_holdout_agreement_pgd",
    }
    try:
        deadline = time.monotonic() + 120
        while not wanted <= (found := scraped(address)).keys():
            assert process.poll() is None, ended(process)
            assert time.monotonic() < deadline, sorted(found)
            time.sleep(0.5)
        tags, loss = found["ray_dfshield_train_loss"]
        assert (tags["run"], tags["seed"]) == ("tiny", "0")
        assert loss > 0
    finally:
        os.killpg(process.pid, signal.SIGINT)
        answer = ended(process)
    assert answer.code == 130, answer
    assert "trackers" not in answer.err
    left = drive("import ray; ray.init(); print(ray.util.list_named_actors(True))", env).stdout
    assert left.splitlines()[-1] == "[]"
    assert list((run_of(config) / "tensorboard").iterdir())
