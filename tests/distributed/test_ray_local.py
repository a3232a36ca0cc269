"""Starting a Ray of our own and ending it, each in processes, homes and folders of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray_head import descendants, gone_within, living

LOCAL = """
import json, os, signal, logging
from dfshield.distributed.cluster.session import RaySession
root = logging.getLogger()
before = (root.level, list(root.handlers), signal.getsignal(signal.SIGTERM))
said = []
session = RaySession("local", log=said.append)
session.start()
session.start()
import ray

@ray.remote
def look():
    print("a worker speaks")
    mask = os.umask(0o22)
    return os.getpid(), mask

worker, mask = ray.get(look.remote())
nodes = [(node.host, node.cpus, node.gpus) for node in session.nodes()]
local = session.local
after = (root.level, list(root.handlers), signal.getsignal(signal.SIGTERM))
session.close()
session.close()
print(json.dumps({"said": said, "worker": worker, "mask": mask, "nodes": nodes, "local": local,
                  "same": before == after, "open": ray.is_initialized()}))
"""

LASTING = """
import os, time
from dfshield.distributed.cluster.session import RaySession
session = RaySession("local", log=lambda _: None)
session.start()
import ray

@ray.remote(num_cpus=0)
def work(path):
    open(path, "w").close()
    while True:
        sum(range(10**6))

busy = [work.remote(os.path.join(os.environ["RAY_TMPDIR"], f"busy{n}")) for n in range(2)]
try:
    ray.get(busy)
except KeyboardInterrupt:
    session.close()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_ray_is_quiet_private_and_ends_when_closed(home, drive):
    done = drive(LOCAL, home | {"RAY_ADDRESS": "127.0.0.1:9"})
    assert done.stderr == ""
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    found = json.loads(line)
    assert found["said"] == ["Starting Ray on this machine"]
    assert found["local"]
    assert len(found["nodes"]) == 1
    assert found["same"]
    assert found["mask"] == 0o22
    assert not found["open"]
    folder = Path(home["HOME"])
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*")] == [
        ".ray",
        ".ray/auth_token",
    ]
    assert (folder / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert gone_within({found["worker"]}, 10) == {}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.drill),
        pytest.param(signal.SIGTERM, marks=pytest.mark.drill),
        signal.SIGKILL,
    ],
)
def test_no_process_of_a_local_ray_outlives_its_driver(home, number):
    driver = subprocess.Popen(
        [sys.executable, "-c", LASTING],
        env=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell that runs the tests in the background has SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        scratch = Path(home["RAY_TMPDIR"])
        deadline = time.monotonic() + 60
        while len(list(scratch.glob("busy*"))) < 2:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = descendants(driver.pid)
        shown = " ".join(living(children).values())
        for name in ("raylet", "gcs_server", "DashboardAgent", "RuntimeEnvAgent", "ray::work"):
            assert name in shown
        # Ctrl-C reaches the whole group of the terminal.
        (os.killpg if number == signal.SIGINT else os.kill)(driver.pid, number)
        assert gone_within(children | {driver.pid}, 10) == {}
    finally:
        driver.kill()
    assert driver.communicate()[0] == b""


STARTED_UNDER_SIGNALS = """
import os, signal, threading
from dfshield.distributed.cluster.session import RaySession
import ray
seen = []
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
session = RaySession("local", log=lambda _: None)
for number in (signal.SIGINT, signal.SIGTERM):
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    try:
        session.start()
        print("started", ray.is_initialized())
    except KeyboardInterrupt:
        print("interrupted", ray.is_initialized())
    session.close()
print(seen)
"""


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_an_ignored_signal_does_not_stop_the_start_and_a_handler_of_the_user_hears(home, drive):
    done = drive(STARTED_UNDER_SIGNALS, home)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["started True", "interrupted False", "[15]"]
