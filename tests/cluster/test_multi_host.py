"""A cluster of several hosts, started and used with the commands of cluster/README.md."""

import json
import re
import shutil
import sys

import pytest
from hosts import hosts, permitted
from tiny_run import events, finish, wait_until, write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TOKEN_FILE = ".ray/auth_token"
TOKEN_MODE = {"RAY_AUTH_MODE": "token"}
DASHBOARD = "http://127.0.0.1:8265"
# Prints the status that the dashboard answers with, without and with a token.
ASK_DASHBOARD = """
import sys, urllib.error, urllib.request
from pathlib import Path
address, *tokens = sys.argv[1:]
for token in ("", *tokens):
    request = urllib.request.Request(address + "/api/version")
    if token:
        request.add_header("Authorization", f"Bearer {Path(token).read_text()}")
    try:
        print(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except urllib.error.URLError as error:
        print(error.reason)
"""
WORK = {
    "synthesis__num_images": 480,
    "synthesis__iterations": 300,
    "storage__part_size": 20,
    "storage__shard_size": 80,
    "training__inner": {"num_steps": 2},
    "training__gradrefine": {"num_batches": 4},
    "evaluation__slice_size": 10,
}
NUM_PARTS = 25


@pytest.fixture(scope="module")
def network():
    if not permitted():
        pytest.skip("making network namespaces is not permitted here")
    with hosts(["head", "one", "two", "three"]) as made:
        yield {host.name: host for host in made}


@pytest.fixture(scope="module")
def cluster(network):
    """Head and two workers with two logical GPUs each, started as cluster/README.md says."""
    head = network["head"]
    code, said = head.run("ray", "get-auth-token", "--generate")
    assert code == 0, said
    (head.home / TOKEN_FILE).chmod(0o600)
    told = (f"--node-ip-address={head.address}", "--port=6379", "--dashboard-host=127.0.0.1")
    start = ("ray", "start", "--head", *told, "--num-cpus=0", "--num-gpus=0")
    code, said = head.run(*start, **TOKEN_MODE)
    assert code == 0, said
    for name in ("one", "two"):
        join(network, name)
    return network


def join(network, name):
    """Copy the token to a host and start Ray there."""
    host, head = network[name], network["head"]
    (host.home / TOKEN_FILE).parent.mkdir()
    shutil.copy(head.home / TOKEN_FILE, host.home / TOKEN_FILE)
    (host.home / TOKEN_FILE).chmod(0o600)
    start = ("ray", "start", f"--address={head.address}:6379", "--num-cpus=2", "--num-gpus=2")
    code, said = host.run(*start, **TOKEN_MODE)
    assert code == 0, said


def submitted(cluster, folder, *command):
    """Start ``ray job submit`` in another shell of the head; the folder holds what it needs."""
    submit = ("ray", "job", "submit", "--working-dir", str(folder), "--", "dfshield", *command)
    return cluster["head"].start(*submit, **TOKEN_MODE, RAY_ADDRESS=DASHBOARD)


def ended(process):
    said, _ = process.communicate(timeout=240)
    assert "Traceback" not in said, said
    return process.returncode, said


def workers_of(run):
    """Where each worker that has started is, by its name."""
    return {e["worker"]: e for e in events(run, "worker_started")}


@pytest.mark.drill
def test_hosts_that_come_and_go_give_what_one_process_gives(cluster, tmp_path):
    config = write_config(tmp_path / "job", storage__path=str(tmp_path / "runs"), **WORK)
    finish("teacher", config)
    run = tmp_path / "runs" / "tiny"
    job = submitted(cluster, config.parent, "run", config.name, "cluster.address=auto")
    wait_until(lambda: len(workers_of(run)) == 4, job)
    assert {e["host"] for e in workers_of(run).values()} == {"one", "two"}
    join(cluster, "three")
    wait_until(lambda: "three" in {e["host"] for e in workers_of(run).values()}, job)
    late = {name for name, e in workers_of(run).items() if e["host"] == "three"}
    wait_until(lambda: late & {e["worker"] for e in events(run, "part_committed")}, job)
    assert len(events(run, "part_committed")) < NUM_PARTS - 6
    cluster["two"].kill()
    code, said = ended(job)
    assert code == 0, said

    lost = [e for e in events(run, "worker_lost") if e["unit"]]
    assert len(lost) <= 2
    assert {workers_of(run)[e["worker"]]["host"] for e in lost} <= {"two"}
    paths = [e["path"] for e in events(run, "part_committed")]
    assert len(paths) == len(set(paths)) == NUM_PARTS
    assert len(events(run, "unit_retried")) == len(lost)
    assert_one_at_a_time(run)
    token = (cluster["head"].home / TOKEN_FILE).read_text().strip()
    assert len(token) >= 32
    written = "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())
    assert token not in said + written

    # The same images and, of four workers, of one, and of one process, the same student.
    finish("verify", run, "--resynthesize", 40)
    ranks = {e["worker"]: e["host"] for e in events(run, "worker_started") if "rank" in e["worker"]}
    assert ranks.keys() == {f"rank-{n}" for n in range(4)}
    assert set(ranks.values()) == {"one", "three"}
    for name in ("one", "alone"):
        shutil.copytree(run / "teacher", tmp_path / "runs" / name / "teacher")
    one = (f"training.data={run / 'synthetic'}", "name=one", "cluster.num_workers=1")
    job = submitted(cluster, config.parent, "train", config.name, "cluster.address=auto", *one)
    code, said = ended(job)
    assert code == 0, said
    alone = (f"training.data={run / 'synthetic'}", "name=alone")
    finish("train", config, *alone)
    students = {
        name: (tmp_path / "runs" / name / "student" / "model.safetensors").read_bytes()
        for name in ("tiny", "one", "alone")
    }
    assert students["tiny"] == students["one"] == students["alone"]


def assert_one_at_a_time(run):
    """No GPU was used by two workers at once."""
    open_units, busy = {}, {}
    where = workers_of(run)
    for event in events(run, "unit_started", "unit_done", "worker_lost", "worker_started"):
        if event["event"] == "unit_started":
            place = where[event["worker"]]
            (gpu,) = place["gpus"]
            spot = (place["node"], gpu)
            assert spot not in busy, event
            busy[spot] = event["worker"]
            open_units[event["worker"]] = spot
        elif event["worker"] in open_units and event["event"] != "worker_started":
            busy.pop(open_units.pop(event["worker"]))
    assert not busy


@pytest.mark.drill
def test_the_dashboard_wants_the_token_and_is_not_reached_from_outside(cluster):
    head = cluster["head"]
    token = str(head.home / TOKEN_FILE)
    code, said = head.run(sys.executable, "-c", ASK_DASHBOARD, DASHBOARD, token)
    assert (code, said.split()) == (0, ["401", "200"]), said
    away = DASHBOARD.replace("127.0.0.1", head.address)
    code, said = cluster["one"].run(sys.executable, "-c", ASK_DASHBOARD, away)
    assert "refused" in said


@pytest.mark.drill
def test_a_path_that_only_one_host_has_is_refused(cluster, tmp_path):
    """The hosts share all but /tmp/ray."""
    config = write_config(tmp_path, storage__path="/tmp/ray/runs")
    address = f"cluster.address={cluster['head'].address}:6379"
    code, said = cluster["head"].run("dfshield", "run", str(config), address, **TOKEN_MODE)
    assert code == 2
    assert "storage.path /tmp/ray/runs/tiny is another folder there than here" in said
    assert re.search(r"Error: node (one|two):", said)


@pytest.mark.drill
def test_a_job_that_cannot_be_done_fails_with_the_pipelines_exit_code(cluster, tmp_path):
    write_config(tmp_path)
    job = submitted(cluster, tmp_path, "run", "tiny.yaml", "cluster.adress=auto")
    code, said = ended(job)
    assert code == 1
    assert "cluster.adress: unknown key" in said
    code, listed = cluster["head"].run("ray", "job", "list", **TOKEN_MODE, RAY_ADDRESS=DASHBOARD)
    assert re.search(r"driver_exit_code=2\b", listed), listed


@pytest.mark.drill
def test_doctor_sees_every_host_from_any_of_them(cluster, tmp_path):
    command = ("dfshield", "doctor", str(write_config(tmp_path)), "cluster.address=auto", "--json")
    code, said = cluster["one"].run(*command, **TOKEN_MODE)
    assert code == 0, said
    found = {(check["name"], check["where"]): check for check in json.loads(said)}
    assert found["authentication", f"{cluster['head'].address}:6379"]["told"] == "by token"
    for host in ("head", "one"):
        for name in ("versions", "shared storage", "clock"):
            assert found[name, f"node {host}"]["verdict"] == "ok"
    assert found["GPUs", "node one"]["verdict"] == "warning"  # they are only counted
