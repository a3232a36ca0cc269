"""A cluster that has no machine for work until it is asked for one: Ray's autoscaler itself."""

import sys

import pytest
import yaml
from launch_templates import run_alone
from tiny_run import contents, events, finish, run_of, write_config

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.drill]

# Ray's own autoscaler, with Ray's provider whose machines are processes of this one.
CONFIG = {
    "cluster_name": "growing",
    "max_workers": 2,
    "idle_timeout_minutes": 0.1,
    "provider": {
        "type": "fake_multinode",
        "disable_launch_config_check": True,
        "disable_node_updaters": True,
    },
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    **{f"{name}_commands": [] for name in ("initialization", "setup", "head_setup")},
    **{f"{name}_commands": [] for name in ("worker_setup", "head_start_ray", "worker_start_ray")},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {
            "resources": {"CPU": 1, "GPU": 1},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
}
RUN = """
import os, subprocess, sys

config, *command = sys.argv[1:]
start = ("ray", "start", "--head", "--num-cpus=0", f"--autoscaling-config={config}")
env = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
subprocess.run(start, env=env, check=True)
code = subprocess.run(command).returncode
subprocess.run(["ray", "status", "-v"])
sys.exit(code)
"""


def test_machines_come_when_a_run_asks_for_them(home, tmp_path):
    work = {"synthesis__num_images": 160, "synthesis__iterations": 60, "storage__part_size": 20}
    config = write_config(tmp_path, **work)
    finish("teacher", config)
    (tmp_path / "autoscaling.yaml").write_text(yaml.safe_dump(CONFIG))
    size = ("cluster.num_workers=2", "cluster.gpus_per_worker=1", "cluster.wait=120")
    dfshield = ("dfshield", "synthesize", str(config), "cluster.address=auto", *size)
    env = home | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "OMP_NUM_THREADS": "1"}
    script = (sys.executable, "-c", RUN, str(tmp_path / "autoscaling.yaml"))
    done = run_alone(env, *script, *dfshield)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Waiting for nodes, 120 s at most: the Ray cluster has no GPUs" in done.stderr
    started = events(run_of(config), "worker_started")
    assert len({e["node"] for e in started}) == 2
    # Nothing is asked for any more that would keep the machines.
    assert "From request_resources:\n (none)" in done.stdout

    other = write_config(tmp_path / "alone", **work)
    finish("teacher", other)
    finish("synthesize", other)
    assert contents(run_of(other) / "synthetic") == contents(run_of(config) / "synthetic")
