"""How many workers there are, and what each takes."""

import pytest

from dfshield.distributed.cluster import capacity as capacity_module
from dfshield.distributed.cluster.capacity import Capacity
from dfshield.distributed.cluster.session import Node
from dfshield.distributed.cluster.worker_plan import NoCapacityError, plan_workers


@pytest.fixture(autouse=True)
def _no_thread_limit(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def node(cpus, gpus=0):
    return Node(id=f"{cpus}-{gpus}", host="h", cpus=cpus, gpus=gpus)


def test_one_worker_a_gpu_and_the_cores_shared_out():
    plan = plan_workers([node(16, 4), node(8, 4), node(32)])
    assert (plan.num_workers, plan.num_gpus, plan.num_cpus) == (8, 1, 0)
    assert plan.threads == 2  # of the node that has the fewest cores for its GPUs
    assert "one a GPU" in plan.format()


def test_without_gpus_slots_of_the_cpus_and_said_so():
    plan = plan_workers([node(2)])
    assert (plan.num_workers, plan.num_gpus, plan.num_cpus, plan.threads) == (2, 0, 1, 1)
    assert "CPU slots" in plan.format()
    plan = plan_workers([node(16), node(16)])
    assert (plan.num_workers, plan.num_cpus, plan.threads) == (8, 4, 4)
    assert plan_workers([node(16)], num_workers=1).threads == 16
    assert plan_workers([node(16)], num_workers=3).threads == 5
    assert plan_workers([node(4), node(4)], num_workers=3).threads == 2


def test_a_node_without_cores_still_has_a_thread():
    assert plan_workers([node(0, 2)]).threads == 1


@pytest.mark.parametrize(("limit", "threads"), [("1", 1), ("3", 3), ("99", 8), ("many", 8)])
def test_threads_are_limited_by_the_environment(monkeypatch, limit, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert plan_workers([node(8)], num_workers=1).threads == threads


@pytest.mark.parametrize(
    ("nodes", "wanted", "there"),
    [([node(8, 2), node(8, 1)], 4, "3 GPUs"), ([node(2), node(1)], 4, "3 CPUs and no GPU")],
)
def test_more_workers_than_there_is_room_for_are_refused(nodes, wanted, there):
    with pytest.raises(NoCapacityError, match=f"cluster.num_workers: {wanted} wanted.*{there}"):
        plan_workers(nodes, num_workers=wanted)
    with pytest.raises(NoCapacityError, match=f"cluster.min_workers: {wanted} wanted.*{there}"):
        plan_workers(nodes, min_workers=wanted)
    assert plan_workers(nodes, num_workers=wanted, growing=True).num_workers == wanted


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(
    ("nodes", "share", "there"),
    [
        ([], None, "no CPUs and no GPU"),
        ([node(0)], None, "no CPUs and no GPU"),
        ([node(8)], 1.0, "no GPUs"),
    ],
)
def test_a_cluster_without_room_for_one_is_refused(nodes, share, there, growing):
    with pytest.raises(NoCapacityError, match=f"has {there} to work on"):
        plan_workers(nodes, gpus_per_worker=share, num_workers=2, growing=growing)


@pytest.mark.parametrize(
    ("share", "per_gpu"), [(1.0, 1), (0.5, 2), (0.25, 4), (0.3, 3), (1 / 3, 3)]
)
def test_several_workers_share_a_gpu_and_its_cores(share, per_gpu):
    plan = plan_workers([node(16, 2), node(24, 1)], gpus_per_worker=share)
    assert (plan.num_workers, plan.num_gpus, plan.num_cpus) == (3 * per_gpu, share, 0)
    assert plan.threads == 16 // (2 * per_gpu)
    assert plan.capacity_of([node(8, 2)]) == 2 * per_gpu
    assert plan.num_gpus * per_gpu <= 1
    assert plan.whole_gpus().num_workers == 3
    assert plan.whole_gpus().num_gpus == 1
    few = plan_workers([node(16, 2)], gpus_per_worker=share, num_workers=per_gpu)
    assert few.whole_gpus().num_workers == 1


def test_no_share_of_a_gpu_means_cpu_slots_where_there_are_gpus():
    plan = plan_workers([node(8, 2)], gpus_per_worker=0.0)
    assert (plan.num_workers, plan.num_gpus, plan.num_cpus) == (4, 0, 2)
    assert plan.whole_gpus() == plan


def test_so_many_as_the_training_wants_at_least_have_room():
    plan = plan_workers([node(8)], min_workers=6)  # more than the four slots of a node
    assert (plan.num_workers, plan.num_cpus) == (6, 1)


def test_a_cluster_that_grows_has_room_for_more_of_the_same():
    on_gpus = plan_workers([node(8, 2)])
    assert on_gpus.capacity_of([node(8, 2), node(4, 1)]) == 3
    assert on_gpus.capacity_of([node(8)]) == 0
    on_slots = plan_workers([node(8)])  # four, of two CPUs each
    assert on_slots.capacity_of([node(8), node(3), node(1)]) == 5
    assert on_slots.capacity_of([]) == 0


@pytest.mark.parametrize(("without", "workers"), [(0, 4), (1, 3), (4, 1)])
def test_a_group_takes_the_gpus_that_are_not_kept_out(monkeypatch, without, workers):
    monkeypatch.setattr(capacity_module, "draining_nodes", frozenset)
    nodes = [node(16, 4)]
    plan = plan_workers(nodes, gpus_per_worker=0.5)
    capacity = Capacity(plan, lambda: nodes, fixed=False, head=None)
    assert capacity.group_plan(least=1, most=8, without=without).num_workers == workers
