"""The drill: a job is disturbed again and again; it ends, and nothing is lost or done twice."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tiny_run import (
    Answer,
    contents,
    ended,
    events,
    parts,
    resuming_command,
    run_of,
    start,
    wait_until,
)

SYNTHESIS = {
    "synthesis__num_images": 200,
    "synthesis__iterations": 60,
    "storage__part_size": 20,
    "storage__shard_size": 80,
}
SLOWER = {**SYNTHESIS, "synthesis__iterations": 400}  # for workers that take long to start
NUM_PARTS = 11  # ten of the data, one of the hold-out
SIGNAL_SECONDS = 10.0
EXIT_INTERRUPTED = 130


@dataclass
class Account:
    """What a row of the drill has counted.

    Attributes:
        victim: who or what died.
        phase: what it was doing.
        kills: how often.
        committed: how many parts (in training: updates) were there at each kill.
        lost: parts (updates) that were begun and had to be begun again.
        seconds: how long the row took.
    """

    victim: str
    phase: str
    kills: int = 0
    committed: list[int] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """Return the row as it stands in the table."""
        at = ", ".join(map(str, self.committed))
        return (
            f"| {self.victim} | {self.phase} | {self.kills} | {at} | {self.lost} | "
            f"{self.seconds:.0f} s |"
        )


HEADER = """| victim | phase | kills | parts or updates done then | lost | took |
|---|---|---|---|---|---|"""


def part_stamps(run: Path) -> dict[str, tuple[int, int]]:
    """The part files with what tells that they were written anew."""
    stats = {str(p.relative_to(run)): p.stat() for p in sorted(run.rglob("*.parquet"))}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}


def at_work(run: Path) -> dict[str, str]:
    """The parts that workers have begun and neither ended nor lost, by worker."""
    units: dict[str, str] = {}
    for event in events(run):
        name = event["event"]
        if name == "unit_started":
            units[event["worker"]] = event["unit"]
        elif name in ("unit_done", "worker_lost", "unit_failed"):
            units.pop(event["worker"], None)
        elif name in ("synthesis_started", "driver_lost"):
            units.clear()
    return units


class Disturbed:
    """A job that is being disturbed: what was there at each kill, and what has to hold at the end.

    Args:
        config: its configuration file.
        reference: the run folder that the same configuration gives undisturbed.
        account: where it is counted.
        workers: how many parts can be under way at once.
    """

    def __init__(self, config: Path, reference: Path, account: Account, *, workers: int) -> None:
        self.config = config
        self.run = run_of(config)
        self.reference = reference
        self.account = account
        self.workers = workers
        self.seen: list[dict[str, tuple[int, int]]] = []
        self.also_ripe: Callable[[], object] = lambda: True
        self.began = time.monotonic()

    def move_to(self, folder: Path) -> None:
        """Let the run lie elsewhere."""
        tree = yaml.safe_load(self.config.read_text())
        tree["storage"]["path"] = str(folder / "runs")
        self.config.write_text(yaml.safe_dump(tree))
        shutil.copytree(self.run, folder / "runs" / "tiny")
        self.run = folder / "runs" / "tiny"

    def ripe(self) -> bool:
        """Whether a part has been committed since the last kill, and another is under way."""
        there = part_stamps(self.run)
        new = len(there) > (len(self.seen[-1]) if self.seen else 0)
        under_way = set(at_work(self.run).values()) - set(parts(self.run))
        return new and bool(under_way) and bool(self.also_ripe())

    def strike(self, kill: Callable[[], object]) -> None:
        """Kill, having made sure that there is something to lose; remember what was there."""
        there = part_stamps(self.run)
        assert there
        assert at_work(self.run)
        kill()
        self.seen.append(there)
        self.account.kills += 1
        self.account.committed.append(len(there))

    def account_for(self, *, deaths: int | None = None) -> None:
        """Make sure of all that the drill promises; the job has ended."""
        expected = contents(self.reference / "synthetic")
        assert contents(self.run / "synthetic") == expected
        final = part_stamps(self.run)
        for before in self.seen:
            assert before.items() <= final.items()
        committed = Counter(e["path"] for e in events(self.run, "part_committed"))
        assert set(committed.values()) <= {1}
        paths = set(parts(self.run))
        begun = Counter(e["unit"] for e in events(self.run, "unit_started") if e["unit"] in paths)
        assert set(begun) == paths
        self.account.lost = begun.total() - len(paths)
        deaths = self.account.kills if deaths is None else deaths
        assert self.account.lost <= self.workers * deaths
        assert not (self.run / "lease.json").exists()
        self.account.seconds = time.monotonic() - self.began


def struck_commands(
    job: Disturbed,
    times: int,
    kill: Callable[[subprocess.Popen], object],
    *args: str,
    code: int,
    env: Mapping[str, str] = os.environ,
) -> Answer:
    """Give a command again and again, kill all but the last; return the answer of that."""
    for _ in range(times):
        process = start("synthesize", job.config, *args, env=env)
        wait_until(job.ripe, process)
        job.strike(lambda process=process: kill(process))
        answer = ended(process)
        assert answer.code == code, answer
        assert "Traceback" not in answer.err
        if code == EXIT_INTERRUPTED:
            assert resuming_command(answer) == ["synthesize", str(job.config), *args]
            assert not list(job.run.rglob("*.dfshield-tmp"))
    return finished(job, *args, env=env)


def finished(job: Disturbed, *args: str, env: Mapping[str, str] = os.environ) -> Answer:
    """Give the command once more, let it end, and make sure that it says so quietly."""
    answer = ended(start("synthesize", job.config, *args, env=env))
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    return answer


def signalled(number: signal.Signals, times: int = 1) -> Callable[[subprocess.Popen], None]:
    """Return what sends a signal to the group of a command, so often, and waits for its end."""

    def kill(process: subprocess.Popen) -> None:
        began = time.monotonic()
        for _ in range(times):
            os.killpg(process.pid, number)
            time.sleep(0.1)
        process.wait(SIGNAL_SECONDS)
        assert time.monotonic() - began < SIGNAL_SECONDS

    return kill
