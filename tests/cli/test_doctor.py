"""The command ``doctor``: what it finds of a machine, a run, a template and a cluster."""

import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
import ray
from tiny_run import call, ended, start, write_config

from dfshield.distributed.cluster.doctor import known_vulnerabilities

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))
from ray_head import running_head


def found(answer):
    """The checks of an answer by name; the last one where there are several."""
    assert "Traceback" not in answer.err
    return {check["name"]: check for check in json.loads(answer.out)}


@pytest.fixture
def no_ray_address(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "token"


def test_a_machine_that_is_well(no_ray_address, tmp_path):
    config = write_config(tmp_path / "x", cluster__address="local")
    answer = call("doctor", config, "--json")
    assert answer.code == 0, answer
    checks = found(answer)
    assert {c["verdict"] for c in checks.values()} == {"ok"}
    assert checks["ray"]["told"] == ray.__version__
    assert checks["test images"]["told"] == "digits"
    assert str(tmp_path / "x") in checks["storage"]["told"]
    assert list((tmp_path / "x").iterdir()) == [config]  # nothing was left there
    table = call("doctor", config).out
    assert "configuration" in table
    assert f"{len(checks)} ok" in table


def test_what_would_stop_a_run_is_found(no_ray_address, tmp_path):
    config = write_config(tmp_path)
    answer = call("doctor", config, "synthesis.batch_sise=3", "--json")
    assert answer.code == 3
    assert "batch_sise: unknown key" in found(answer)["configuration"]["told"]
    answer = call("doctor", config, "storage.path=no-such://there", "--json")
    assert answer.code == 3
    assert "no-such" in found(answer)["configuration"]["told"]
    missing = {"evaluation.data": "{name: npz, path: /no/such/file.npz}"}
    answer = call("doctor", config, *(f"{k}={v}" for k, v in missing.items()), "--json")
    assert answer.code == 0
    assert "/no/such/file.npz" in found(answer)["test images"]["told"]
    vast = ("synthesis.num_images=20000000000", "storage.part_size=20", "storage.shard_size=20")
    answer = call("doctor", config, *vast, "--json")
    assert answer.code == 3
    assert "free some space" in found(answer)["free disk"]["told"]


def test_a_token_that_others_can_read_is_told(no_ray_address, tmp_path):
    no_ray_address.write_text("a" * 64)
    no_ray_address.chmod(0o644)
    answer = call("doctor", "--json")
    assert answer.code == 0
    check = found(answer)["token file"]
    assert check["verdict"] == "warning"
    assert "chmod 600" in check["told"]
    assert "a" * 64 not in answer.out
    no_ray_address.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert found(call("doctor", "--json"))["token file"]["verdict"] == "ok"


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2.51.0", {"CVE-2025-62593", "CVE-2026-27482"}),
        ("2.52.0", {"CVE-2026-27482"}),
        ("2.53.0", {"CVE-2026-27482"}),
        ("2.54.0", set()),
        (ray.__version__, set()),
    ],
)
def test_known_vulnerabilities(version, names):
    told = known_vulnerabilities(version)
    assert {word.strip(",:") for word in told.split() if word.startswith("CVE")} == names


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "image: CHANGE_ME_IMAGE\ngpu: CHANGE_ME_GPU_TYPE # a CHANGE_ME_REMARK\n",
            "IMAGE GPU_TYPE",
        ),
        (
            "#SBATCH --partition=CHANGE_ME_PARTITION\n# CHANGE_ME_OTHER: what to write\n",
            "PARTITION",
        ),
        ("# CHANGE_ME_IMAGE: the image\nimage: mine:1.0\n", ""),
        ("", ""),
    ],
)
def test_placeholders_are_found_outside_of_comments(tmp_path, no_ray_address, text, left):
    template = tmp_path / "template.yaml"
    template.write_text(text)
    answer = call("doctor", "--template", template, "--json")
    assert answer.code == (3 if left else 0)
    check = found(answer)["placeholders"]
    assert check["where"] == str(template)
    names = {f"CHANGE_ME_{name}" for name in left.split()}
    assert {word.strip(",:") for word in check["told"].split() if "CHANGE_ME" in word} == names


def test_a_template_that_is_not_there_is_one_line(tmp_path):
    line = call("doctor", "--template", tmp_path / "no.yaml").refusal()
    assert "no.yaml: cannot be read" in line


# ---------------------------------------------------------------- clusters


def doctor(env, *args):
    return ended(start("doctor", *args, "--json", env=env))


@pytest.fixture(params=["token", pytest.param("disabled", marks=pytest.mark.drill)])
def head(request):
    mode = {"RAY_AUTH_MODE": request.param}
    with running_head(mode) as env:
        yield env | mode


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_is_looked_at(head, tmp_path):
    config = write_config(tmp_path)
    answer = doctor(head, config, "cluster.address=auto")
    assert answer.code == 0, answer
    assert head["RAY_AUTH_TOKEN"] not in answer.out + answer.err
    checks = found(answer)
    if head["RAY_AUTH_MODE"] == "disabled":
        assert checks["authentication"]["verdict"] == "warning"
        assert "RAY_AUTH_MODE=token" in checks["authentication"]["told"]
        return
    assert checks["authentication"]["told"] == "by token"
    node = f"node {socket.gethostname()}"
    assert {checks[n]["where"] for n in ("versions", "GPUs", "clock", "shared storage")} == {node}
    assert checks["GPUs"]["verdict"] == "warning"
    assert "Ray counts 2 GPUs, torch sees no GPUs" in checks["GPUs"]["told"]
    assert checks["shared storage"]["verdict"] == "ok"
    assert checks["versions"]["verdict"] == "ok"
    assert list(tmp_path.iterdir()) == [config]

    # Without a run, and with another token or address.
    assert "shared storage" not in found(doctor(head))
    answer = doctor(head, config, "cluster.address=127.0.0.1:1")
    assert answer.code == 3
    assert "no Ray answers" in found(answer)["cluster"]["told"]
    answer = doctor(head | {"RAY_AUTH_TOKEN": "b" * 64}, config, "cluster.address=auto")
    assert answer.code == 3
    assert "RAY_AUTH_TOKEN" in found(answer)["cluster"]["told"]
