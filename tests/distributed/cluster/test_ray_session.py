"""Joining and leaving a Ray that runs, and addresses where there is none."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from ray_head import running_head
from tiny_run import write_config

from dfshield.distributed.cluster.session import RaySession
from dfshield.errors import InputError


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """A running Ray with a token and two logical GPUs; the environment of who may join it."""
    with running_head() as env:
        yield env


@pytest.fixture(scope="module")
def head_without_dfshield(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Like `head`, but dfshield cannot be imported there."""
    broken = tmp_path_factory.mktemp("path") / "dfshield"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ModuleNotFoundError('no dfshield here')")
    with running_head({"PYTHONPATH": str(broken.parent)}) as env:
        yield env


JOIN = """
import json, sys
from dfshield.distributed.cluster.session import RaySession
from dfshield.distributed.cluster.survey import survey
from dfshield.errors import DfshieldError
from dfshield.storage import Folder
{before}
session = RaySession({address!r}, log=lambda line: print(line, file=sys.stdout))
try:
    session.start()
    found = survey(session.nodes(), Folder.at("store"), on_gpus=True)
    import torch
    assert found.torch == torch.__version__
    (node,) = session.nodes()
    print(node.gpus, found.device, session.local)
    {after}
except DfshieldError as error:
    print(type(error).__name__, error)
session.close()
"""


def joining(address: str = "auto", *, before: str = "", after: str = "") -> str:
    return JOIN.format(address=address, before=before, after=after)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://host:10001", "ray job submit"),
        ("http://127.0.0.1:8265", "dashboard, where `ray job submit` works"),
        ("nonsense", "host:port"),
        ("host:port", "host:port"),
        ("user@host:6379/x", "host:port"),
        ("", "host:port"),
    ],
)
def test_an_address_that_is_none_is_refused(address, words):
    with pytest.raises(InputError, match=words) as caught:
        RaySession(address, log=print).start()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["local", "ray://host:10001", "nonsense"])
def test_ray_address_is_refused_like_the_key_and_named(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"RAY_ADDRESS={address}"):
        RaySession("auto", log=print).start()


def test_an_address_where_nothing_listens_is_said_in_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        port = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(InputError, match=f"127.0.0.1:{port}"):
            RaySession(f"127.0.0.1:{port}", log=print).start()
        assert time.monotonic() - began < 10


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.drill
def test_a_port_that_is_no_ray_is_said_within_a_minute(home, drive):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        done = drive(joining(f"127.0.0.1:{port}"), home)
    assert done.stderr == ""
    assert done.stdout.startswith(f"InputError the Ray at 127.0.0.1:{port} cannot be joined")
    assert len(done.stdout.splitlines()) == 1


def test_a_missing_ray_is_said_with_what_installs_it(home, drive):
    script = """
import sys
sys.modules["ray"] = None
from dfshield.distributed.cluster.session import RaySession
from dfshield.errors import InputError
try:
    RaySession("local", log=print).start()
except InputError as error:
    print(error)
"""
    done = drive(script, home)
    assert "pip install" in done.stdout
    assert "cluster.address=none" in done.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_is_joined_surveyed_and_left_running(head, drive, tmp_path):
    for address in ("auto", head["RAY_ADDRESS"]):
        done = drive(joining(address), head)
        assert done.stderr == ""
        joined, found = done.stdout.splitlines()
        assert joined.startswith("Joined the Ray at")
        assert found == "2 cpu False"  # two logical GPUs that torch does not see
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.ray
@pytest.mark.slow
def test_doctor_looks_at_the_nodes_of_a_cluster(head, tmp_path):
    config = write_config(tmp_path)
    code = "from dfshield.cli.main import main; main()"
    args = ["doctor", config, "cluster.address=auto", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *args], env=head, capture_output=True)
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["authentication"]["told"] == "by token"
    assert "Ray counts 2 GPUs, torch sees no GPUs" in checks["GPUs"]["told"]
    for name in ("versions", "shared storage", "clock"):
        assert checks[name]["where"] == f"node {socket.gethostname()}"
        assert checks[name]["verdict"] == "ok"


@pytest.mark.ray
def test_a_ray_that_the_process_has_initialised_is_used_and_kept(head, drive):
    begin = "import ray; ray.init(logging_level=40, log_to_driver=False)"
    script = joining("local", before=begin) + "print(ray.is_initialized())"
    assert drive(script, head).stdout.splitlines()[1:] == ["2 cpu False", "True"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"RAY_AUTH_TOKEN": "b" * 64}, {"RAY_AUTH_TOKEN": ""}, {"RAY_AUTH_MODE": "disabled"}],
    ids=["wrong", "missing", "off"],
)
def test_a_token_that_the_cluster_does_not_take_is_said(head, drive, changes):
    done = drive(joining(), head | changes)
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    assert line.startswith("InputError")
    assert "RAY_AUTH_TOKEN" in line


@pytest.mark.ray
def test_a_cluster_of_another_ray_is_refused(head, drive):
    done = drive(joining(before="import ray; ray.__version__ = '1.2.3'"), head)
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    assert line.startswith("InputError")
    assert "Ray: 1.2.3" in line


@pytest.mark.ray
@pytest.mark.slow
def test_a_node_without_dfshield_is_named(head_without_dfshield, drive, tmp_path):
    line = drive(joining(), head_without_dfshield).stdout.splitlines()[-1]
    assert line.startswith(f"InputError node {socket.gethostname()}")
    assert "dfshield cannot be imported there (no dfshield here)" in line
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.ray
@pytest.mark.parametrize(
    ("ask", "words"),
    [
        pytest.param(
            "say(ask_nodes(nodes, Probe(uri, 'not-there', b'')))",
            ".* another folder there",
            marks=pytest.mark.drill,
        ),
        ("write('m' * 170), say(ask_nodes(nodes, Probe(uri, 'm' * 170, b'x')))", ".*written there"),
        pytest.param(
            "survey([Node('e' * 56, 'lost-one', 1, 0)], Folder.at(uri), on_gpus=False)",
            "DfshieldError .*lost-one",
            marks=pytest.mark.drill,
        ),
    ],
    ids=["not-shared", "not-writable", "lost"],
)
def test_a_node_that_cannot_do_its_part_is_named(head, drive, ask, words):
    after = f"""
    from dfshield.distributed.cluster.node_report import Probe, ask_nodes
    from dfshield.distributed.cluster.session import Node
    nodes, uri = session.nodes(), Folder.at("store").uri
    say = lambda reports: print(*(report.storage for report in reports))
    write = lambda name: Folder.at(uri).write_bytes(name, b"x")
    {ask}
"""
    done = drive(joining(after=after), head)
    assert done.stderr == ""
    line = done.stdout.splitlines()[-1]
    assert re.match(words, line), line
