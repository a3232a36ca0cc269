"""The `ray up` configurations: valid for Ray's own check, and closed to everyone else."""

import copy
import json
import sys
from pathlib import Path

import pytest
import yaml
from launch_templates import read, run_alone
from ray.autoscaler._private.util import prepare_config, validate_config

import dfshield

NAMES = ("aws.yaml", "gcp.yaml", "onpremise.yaml")
CLOUDS = NAMES[:2]
# Asks a running Ray what it is, with and without the token, and where its dashboard listens.
ASK = """
import json, pathlib, time, urllib.error, urllib.request
import psutil, ray

def status(token):
    request = urllib.request.Request("http://127.0.0.1:8265/api/cluster_status")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code

ray.init(address="auto", log_to_driver=False)
deadline = time.monotonic() + 60
while len(ray.nodes()) < 2 and time.monotonic() < deadline:
    time.sleep(0.2)
print("ANSWER", json.dumps({
    "cpus": sorted(node["Resources"].get("CPU", 0) for node in ray.nodes()),
    "with_token": status((pathlib.Path.home() / ".ray/auth_token").read_text()),
    "with_another": status("0" * 64),
    "dashboard": [c.laddr.ip for c in psutil.net_connections() if c.laddr[1:] == (8265,)
                  and c.status == "LISTEN"],
}))
"""


def checked(config: dict) -> dict:
    """Return what Ray makes of a configuration, or raise what it has against it."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def start_commands(config: dict) -> dict[str, str]:
    """The command that starts Ray, on the head and on a worker."""
    return {kind: config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")}


@pytest.mark.parametrize("name", NAMES)
def test_ray_takes_the_configuration(name):
    prepared = checked(read(name))
    assert prepared["cluster_name"] == "dfshield"
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert head.get("max_workers", 0) == 0 or name == "onpremise.yaml"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *((name, ("idle_timeout_minute",)) for name in NAMES),
        *((name, ("auth", "ssh_usr")) for name in NAMES),
        *((name, ("worker_start_ray_command",)) for name in NAMES),
        *((name, ("available_node_types", "gpu", "min_worker")) for name in CLOUDS),
    ],
)
def test_a_misspelt_key_is_refused(name, path):
    config = read(name)
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = 1
    with pytest.raises(Exception, match=path[-1]):
        checked(config)


def test_every_setting_of_an_aws_machine_is_one_that_ec2_knows():
    loaders = pytest.importorskip("botocore.loaders")
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"))
    shape = model.operation_model("RunInstances").input_shape
    for machine in read("aws.yaml")["available_node_types"].values():
        request = machine["node_config"] | {"MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(request, shape).generate_report()


@pytest.mark.parametrize("name", NAMES)
def test_only_holders_of_the_token_and_only_the_tunnel_get_in(name):
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in c for c in config["initialization_commands"])
    for command in start_commands(config).values():
        assert "RAY_AUTH_MODE=token" in command
        assert "RAY_USAGE_STATS_ENABLED=0" in command
        assert command.index("RAY_AUTH_MODE") < command.index("ray start")
    assert "--dashboard-host=127.0.0.1" in start_commands(config)["head"]
    assert "0.0.0.0" not in json.dumps(config)
    assert "security_group" not in config["provider"]  # Ray's own opens SSH alone


@pytest.mark.parametrize("name", NAMES)
def test_the_repository_is_installed_as_the_readme_does(name):
    config = read(name)
    assert config["file_mounts"]["~/dfshield"] == "."
    assert any("pip install ~/dfshield" in c for c in config["setup_commands"])


@pytest.mark.parametrize("name", NAMES)
def test_the_head_takes_no_work(name):
    config = read(name)
    assert "--num-cpus=0" in start_commands(config)["head"]
    if name in CLOUDS:
        assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_spot_machines_that_come_when_asked_for(name):
    worker = read(name)["available_node_types"]["gpu"]
    assert worker["min_workers"] == 0
    assert worker["max_workers"] == read(name)["max_workers"]
    settings = worker["node_config"]
    spot = {"MarketType": "spot"} if name == "aws.yaml" else "SPOT"
    assert spot in (
        settings.get("InstanceMarketOptions"),
        settings.get("scheduling", {}).get("provisioningModel"),
    )


@pytest.mark.ray
@pytest.mark.slow
def test_the_start_commands_start_a_closed_ray_whose_head_takes_no_work(home):
    config = read("onpremise.yaml")
    same = [start_commands(read(name)) for name in CLOUDS]
    assert (
        same == [{k: c.replace(" --num-gpus=0", "") for k, c in start_commands(config).items()}] * 2
    )

    config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
    bootstrap = checked(config) | {"no_restart": False}
    (Path(home["HOME"]) / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(bootstrap))
    script = [
        "ray get-auth-token --generate >/dev/null",
        *config["initialization_commands"],
        "stat -c 'MODE %a' ~/.ray/auth_token",
        *config["head_start_ray_commands"],
        "export RAY_HEAD_IP=127.0.0.1",
        config["worker_start_ray_commands"][-1] + " --num-cpus=3",
        f'{sys.executable} -c "$0"',
        "export RAY_AUTH_MODE=token RAY_ADDRESS=http://127.0.0.1:8265",
        "ray job submit -- dfshield --version",
    ]
    done = run_alone(
        home, "bash", "-c", "\n".join(f"{{ {line}; }} || exit" for line in script), ASK
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MODE 600" in done.stdout
    assert f"dfshield {dfshield.__version__}" in done.stdout
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert json.loads(answer.removeprefix("ANSWER ")) == {
        "cpus": [0, 3],
        "with_token": 200,
        "with_another": 403,
        "dashboard": ["127.0.0.1"],
    }
