"""What users see who never heard of Ray: a quiet start, nothing left, their own Ray honoured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY, changed, contents, events

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FACTORY = """
from dfshield.classifiers import build


def network(width: int = 8):
    options = {"width": width}
    net = build("dfshield:resnet8", input_shape=(1, 8, 8), num_classes=10, options=options)
    return net.network
"""


@pytest.fixture
def user(home, tmp_path):
    """A function that runs `dfshield` for a user with a home and a folder of their own."""
    env = {name: value for name, value in home.items() if name != "PYTHONPATH"}
    (tmp_path / "work").mkdir()
    tree = {key: value for key, value in TINY.items() if key != "cluster"}

    def run(*args, **changes):
        settings = changed(tree, **changes)
        (tmp_path / "work" / "tiny.yaml").write_text(yaml.safe_dump(settings))
        return subprocess.run(
            [Path(sys.executable).with_name("dfshield"), *args],
            cwd=tmp_path / "work",
            env=run.env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    run.env, run.home, run.work = env, Path(env["HOME"]), tmp_path / "work"
    return run


def test_a_run_is_quiet_and_leaves_nothing_behind(user):
    first = user("run", "tiny.yaml", "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["results"]
    said = first.stderr.splitlines()
    assert len([line for line in said if line.startswith("Ray: ")]) == 1
    assert "CPU slots" in first.stderr
    foreign = re.compile(r"pid=|[Ww]arning|Traceback|WARN|INFO|ERROR|usage stats|http://")
    assert not [line for line in said if foreign.search(line)]

    assert [*contents(user.home)] == [".ray/auth_token"]
    assert {path.name for path in user.home.iterdir()} == {".ray"}
    assert (user.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in user.work.iterdir()} == {"tiny.yaml", "runs"}
    run = user.work / "runs" / "tiny"
    assert not [name for name in contents(run) if "ray" in name or "tmp" in name]


@pytest.mark.drill
def test_ray_address_is_joined_unless_another_is_given(user, cluster):
    user.env["RAY_ADDRESS"] = cluster.address
    joined = user("teacher", "tiny.yaml")
    assert joined.returncode == 0, joined.stderr
    assert f"Joined the Ray at {cluster.address}: 2 node(s)" in joined.stderr
    assert len(events(user.work / "runs" / "tiny", "worker_started")) == 1

    own = user("teacher", "tiny.yaml", "cluster.address=local", "name=own")
    assert own.returncode == 0, own.stderr
    assert "Starting Ray on this machine" in own.stderr

    user.env["RAY_ADDRESS"] = "127.0.0.1:9"
    refused = user("teacher", "tiny.yaml", "name=refused")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("Error: no Ray answers at 127.0.0.1:9")


def own_classifier(user):
    (user.work / "mynetworks.py").write_text(FACTORY)
    return {
        "teacher": {
            **{k: v for k, v in TINY["teacher"].items() if k != "options"},
            "source": "python:mynetworks:network",
            "mean": [0.5],
            "std": [0.5],
            "num_classes": 10,
        }
    }


@pytest.mark.drill
def test_a_factory_in_the_folder_of_the_command_is_found_by_workers(user):
    done = user("run", "tiny.yaml", **own_classifier(user))
    assert done.returncode == 0, done.stderr


@pytest.mark.drill
def test_a_factory_that_a_node_lacks_is_said_in_one_line(user, cluster):
    changes = own_classifier(user)
    (user.work / "elsewhere").mkdir()
    (user.work / "mynetworks.py").rename(user.work / "elsewhere" / "mynetworks.py")
    user.env["PYTHONPATH"] = str(user.work / "elsewhere")
    refused = user("teacher", "tiny.yaml", f"cluster.address={cluster.address}", **changes)
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert "mynetworks" in line
    assert "where a worker runs" in line


@pytest.mark.drill
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cluster.num_workers=5", "5 wanted, but Ray has 4 GPUs"),
        ("cluster.address=ray://127.0.0.1:10001", "ray job submit"),
        ("cluster.address=somewhere", "host:port"),
    ],
)
def test_what_cannot_be_is_one_line_and_costs_nothing(user, cluster, override, words):
    user.env["RAY_ADDRESS"] = cluster.address
    refused = user("run", "tiny.yaml", override)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert words in refused.stderr.splitlines()[-1]
