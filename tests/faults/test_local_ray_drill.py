"""Rows of the drill: the driver dies beside a Ray of its own."""

import shutil
import signal
import time
from pathlib import Path

import pytest
from drill import SIGNAL_SECONDS, SLOWER, at_work, part_stamps, signalled, struck_commands
from ray_head import processes
from tiny_run import ended, start, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.drill]

KILLED, STOPPED = -signal.SIGKILL, 130
ROWS = {
    "SIGKILL": (signal.SIGKILL, 1, KILLED),
    "SIGTERM": (signal.SIGTERM, 1, STOPPED),
    "Ctrl-C twice": (signal.SIGINT, 2, STOPPED),
    "SIGHUP": (signal.SIGHUP, 1, STOPPED),
}


@pytest.mark.parametrize("row", ROWS)
def test_driver_with_a_local_ray(disturbed, home, row):
    number, signals, code = ROWS[row]
    job = disturbed(f"driver with a local Ray: {row}", workers=2, synthesis=SLOWER)
    kill = signalled(number, signals)

    def kill_and_see_that_ray_is_gone(process):
        kill(process)
        deadline = time.monotonic() + SIGNAL_SECONDS
        while processes(home) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes(home)

    two = ("cluster.address=local", "cluster.num_workers=2")
    struck_commands(job, 1, kill_and_see_that_ray_is_gone, *two, code=code, env=home)
    job.account_for()


README = Path(__file__).parents[2] / "README.md"


def story():
    """The commands of "Resume what was interrupted", as they stand in the README."""
    _, _, text = README.read_text().partition("\n## Resume what was interrupted\n")
    block = text.split("```bash\n", 1)[1].split("```", 1)[0]
    return [line.partition("#")[0].split() for line in block.splitlines()]


@pytest.mark.timeout(1200)
def test_the_story_of_the_readme(counted, home, tmp_path):
    account, began = counted("driver: the story of the README", "synthesis"), time.monotonic()
    shutil.copytree(README.parent / "examples", tmp_path / "examples")
    first, *others = story()
    run = tmp_path / "runs" / "digits"

    def command(words):
        assert words[0] == "dfshield"
        return start(*words[1:], env=home, cwd=tmp_path)

    process = command(first)
    wait_until(lambda: part_stamps(run) and at_work(run), process, seconds=300)
    before = part_stamps(run)
    process.kill()
    account.kills, account.committed = 1, [len(before)]
    assert ended(process).code == KILLED
    answers = [command(words).communicate(timeout=900) for words in others]
    told, resumed, verified = (out for out, _ in answers)
    assert "has died" in told
    assert "AutoAttack" in resumed
    assert "6 of 6 parts verify" in verified
    assert "0 differ" in verified
    assert before.items() <= part_stamps(run).items()
    account.seconds = time.monotonic() - began
