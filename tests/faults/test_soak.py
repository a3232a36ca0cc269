"""The soak: one long job, and random victims one after the other."""

import os
import random
import signal
import time

import pytest
from clusters import changing
from drill import at_work, part_stamps
from tiny_run import ended, events, start, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.drill, pytest.mark.timeout(3600)]

LONG = {
    "synthesis__num_images": 6400,
    "synthesis__num_holdout": 0,
    "synthesis__iterations": 200,
    "storage__part_size": 20,
    "storage__shard_size": 480,
    "cluster__max_retries": 20,
}
NUM_PARTS, NUM_KILLS = 320, 15


class Soak:
    """The job, its cluster, and the three ways to strike."""

    def __init__(self, job, cluster, draw):
        self.job, self.cluster, self.draw = job, cluster, draw
        self.process = self.command()
        self.victims = []

    def command(self):
        return start("synthesize", self.job.config, self.cluster.setting)

    def over(self):
        return self.process.poll() is not None

    def recovered(self):
        """Whether something was committed since the last kill; the end of the job counts."""
        there = part_stamps(self.job.run)
        return self.over() or len(there) > (len(self.job.seen[-1]) if self.job.seen else 0)

    def driver(self):
        self.process.kill()
        assert ended(self.process).code == -signal.SIGKILL
        self.process = self.command()

    def actor(self):
        started = {e["worker"]: e for e in events(self.job.run, "worker_started")}
        worker = self.draw.choice(sorted(at_work(self.job.run)))
        os.kill(started[worker]["pid"], signal.SIGKILL)

    def node(self):
        victim = self.draw.choice(self.cluster.nodes)
        self.cluster.kill(victim)
        self.cluster.nodes.remove(victim)
        self.cluster.nodes.append(self.cluster.grow())


def test_soak(disturbed):
    draw = random.Random(0)
    clusters = changing(nodes=3, gpus=1)
    job = disturbed("driver, actor or node at random", "synthesis, soak", workers=3, synthesis=LONG)
    soak = Soak(job, next(clusters), draw)
    while not soak.over():
        deadline = time.monotonic() + 120
        while not soak.recovered():
            assert time.monotonic() < deadline, soak.victims
            time.sleep(0.02)
        time.sleep(draw.uniform(2, 10))
        if soak.over() or len(part_stamps(job.run)) > NUM_PARTS - 10:
            break
        wait_until(lambda: at_work(job.run), soak.process)
        victim = draw.choice(["driver", "actor", "node"])
        soak.victims.append(victim)
        job.strike(getattr(soak, victim))
    answer = ended(soak.process)
    next(clusters, None)
    assert answer.code == 0, answer
    assert "Traceback" not in answer.err
    assert len(part_stamps(job.run)) == NUM_PARTS
    assert len(soak.victims) >= NUM_KILLS
    assert set(soak.victims) == {"driver", "actor", "node"}
    job.account_for()
