"""The SLURM script, run for real with a stand-in for SLURM: it starts, fails, stops and resumes."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from launch_templates import ALONE, CLUSTER, PLACEHOLDER
from tiny_run import events, run_of, stamps, succeed, write_config

SCRIPT = CLUSTER / "slurm.sh"
BIN = Path(sys.executable).parent
# On its one machine, srun runs its command.
SRUN = 'while [[ $1 == --* ]]; do shift; done; exec "$@"'
SCONTROL = """
case "$*" in
    "show hostnames machines") echo 127.0.0.1 ;;
    *) echo "$*" >>"$SLURM_SUBMIT_DIR/scontrol" ;;
esac
"""


@dataclass
class Job:
    """A batch job: the script with its placeholders filled in, and SLURM's environment."""

    folder: Path
    env: dict[str, str]
    script: str

    def start(self, **changes: str) -> subprocess.Popen:
        """Begin it, in a process namespace of its own: it calls `ray stop`."""
        path = self.folder / "job.sh"
        path.write_text(self.script)
        return subprocess.Popen(
            [*ALONE, "bash", str(path)],
            env=self.env | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **changes: str) -> tuple[int, str]:
        """Run it to its end; return its exit code and what it said."""
        process = self.start(**changes)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    @property
    def requests(self) -> str:
        """What was asked of scontrol."""
        path = self.folder / "scontrol"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def job(home, tmp_path):
    """A function that makes a job of a command."""

    def make(
        command: str, config: Path = Path("none.yaml"), srun: str = SRUN, scontrol: str = SCONTROL
    ) -> Job:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in {"srun": srun, "scontrol": scontrol}.items():
            (programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (programs / name).chmod(0o755)
        (programs / "activate").write_text(f"PATH={shlex.quote(str(BIN))}:$PATH\n")
        values = {"CHANGE_ME_ENVIRONMENT": str(tmp_path), "CHANGE_ME_CONFIG": str(config)}
        script = re.sub(r"(?m)^command=.*$", lambda _: f"command=({command})", SCRIPT.read_text())
        script = PLACEHOLDER.sub(lambda found: values.get(found[0], "any"), script)
        slurm = {
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "machines",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "OMP_NUM_THREADS": "1",
        }
        env = home | slurm | {"PATH": f"{programs}:{home['PATH']}"}
        return Job(tmp_path, env, script)

    return make


def warn(process: subprocess.Popen) -> None:
    """Send the batch shell what SLURM sends before the time limit."""
    (shell,) = psutil.Process(process.pid).children()
    shell.send_signal(signal.SIGTERM)


def wait_until(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_shellcheck_has_nothing_to_say():
    program = shutil.which("shellcheck", path=BIN)
    assert program, "shellcheck is part of the extra `test`"
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert not done.stdout + done.stderr


def test_sbatch_is_asked_for_whole_machines_a_warning_and_a_requeue():
    lines = re.findall(r"(?m)^#SBATCH (--\S+)", SCRIPT.read_text())
    assert {"--ntasks-per-node=1", "--exclusive", "--requeue", "--signal=B:TERM@180"} <= set(lines)
    # sbatch reads no options after the first command.
    head, _, tail = SCRIPT.read_text().partition("set -uo pipefail")
    assert "#SBATCH" not in tail
    assert not [line for line in head.splitlines() if line and not line.startswith("#")]


def test_a_warning_before_ray_is_up_queues_the_job_again(job):
    waiting = job("true", srun='touch "$SLURM_SUBMIT_DIR/began"; exec sleep 60')
    process = waiting.start()
    wait_until((waiting.folder / "began").exists, process)
    warn(process)
    assert process.wait(10) != 0
    assert waiting.requests == "requeue 7\n"
    assert not (waiting.folder / ".dfshield-7").exists()


def test_a_warning_before_srun_is_called_queues_the_job_again(job):
    # The shell is process 1 of its namespace: a signal that it does not wait for yet is lost.
    early = job(
        "true", srun="exec sleep 60", scontrol=f"[ $1 != show ] || kill -TERM 1\n{SCONTROL}"
    )
    process = early.start()
    assert process.wait(30) != 0
    assert early.requests == "requeue 7\n"


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_the_exit_code_is_that_of_the_command_which_has_a_token_of_its_own(job):
    failing = job("""bash -c 'stat -c "mode %a" "$RAY_AUTH_TOKEN_PATH"; exit 7'""")
    code, said = failing.run()
    assert code == 7, said
    assert "mode 600" in said
    assert not failing.requests
    assert not (failing.folder / ".dfshield-7").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_does_not_start_is_a_failure(job):
    code, said = job("echo never run").run(SLURM_CPUS_PER_TASK="-1")
    assert code == 1, said
    assert "Failed to start Ray" in said
    assert "Ray did not start" in said
    assert "\nnever run" not in said


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.drill
def test_a_job_that_is_warned_stops_cleanly_and_the_next_one_resumes(job, tmp_path):
    shards = {"synthesis__num_images": 240, "storage__shard_size": 40}
    config = write_config(tmp_path, **shards)
    succeed("teacher", config)
    run = run_of(config)
    batch = job('dfshield synthesize "$config" cluster.address=auto', config)
    process = batch.start()
    wait_until(lambda: events(run, "unit_done"), process)
    warn(process)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "what was committed is kept" in said
    assert batch.requests == "requeue 7\n"

    before = {name: stamp for name, stamp in stamps(run).items() if name.endswith(".parquet")}
    code, said = batch.run()
    assert code == 0, said
    assert batch.requests == "requeue 7\n"
    after = {name: stamp for name, stamp in stamps(run).items() if name.endswith(".parquet")}
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before) > 0
