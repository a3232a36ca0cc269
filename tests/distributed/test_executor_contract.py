"""What every executor does, with Ray and without: one set of tests for both."""

import re
import time
from collections import Counter

import pytest
from contract_tasks import BadStart, Device, First, Square, Sum

from dfshield.errors import DfshieldError, InputError
from dfshield.runs import InProcessExecutor
from dfshield.runs.execution.engine_choice import abilities_here


class Recorder:
    """A monitor that remembers."""

    def __init__(self):
        self.amount, self.retries, self.said, self.events = 0.0, 0, [], []

    def begin(self, title, *, total, done, unit):
        self.said.append(title)

    def advance(self, amount):
        self.amount += amount

    def detail(self, text):
        self.said.append(text)

    def retried(self):
        self.retries += 1

    def end(self):
        pass

    def say(self, text):
        self.said.append(text)

    def emit(self, event, **fields):
        self.events.append({"event": event, **fields})

    def all(self, name):
        return [e for e in self.events if e["event"] == name]


ON_RAY = [pytest.mark.ray, pytest.mark.slow]
ray_in_the_drill = pytest.mark.parametrize(
    "executor", ["none", pytest.param("ray", marks=[*ON_RAY, pytest.mark.drill])], indirect=True
)


@pytest.fixture(params=["none", pytest.param("ray", marks=ON_RAY)])
def executor(request):
    if request.param == "none":
        return InProcessExecutor()
    return request.getfixturevalue("on_cluster")


@pytest.fixture
def monitor():
    return Recorder()


def mapped(executor, monitor, task, groups):
    return executor.map(task, groups, engine=executor.engine(), monitor=monitor)


def test_every_unit_is_done_once_and_told(executor, monitor, tmp_path):
    task = Square(tmp_path)
    done = list(mapped(executor, monitor, task, [[1, 2, 3], [4, 5], [], [6]]))
    assert {d.unit: d.result for d in done} == {n: n * n for n in range(1, 7)}
    assert all(d.ref is None for d in done)
    assert Counter(task.tries(n) for n in range(1, 7)) == {1: 6}
    deadline = time.monotonic() + 10
    while monitor.amount < 6 and time.monotonic() < deadline:
        list(mapped(executor, monitor, Square(tmp_path), [[10]]))  # reads what is on its way
        monitor.amount -= 1
    assert monitor.amount == pytest.approx(6)


def test_the_workers_go_by_what_one_of_them_gave_first_and_are_heard_before_they_work(
    executor, monitor
):
    groups = [[n] for n in range(4)]
    for done in mapped(executor, monitor, First(), groups):
        own, _ = done.result
        assert own in {e["own"] for e in monitor.all("agreed")}
    agreed = {d.result[1] for d in mapped(executor, monitor, First(), groups)}
    assert len(agreed) == 1
    assert agreed <= {e["own"] for e in monitor.all("agreed")}


def test_there_are_workers_to_share_the_work(executor):
    assert executor.num_workers() >= 1


def test_a_worker_tells_what_its_processor_can_do(executor):
    assert executor.abilities() == abilities_here()


def test_no_units_no_work(executor, monitor, tmp_path):
    assert list(mapped(executor, monitor, Square(tmp_path), [])) == []
    assert not list(tmp_path.iterdir())


def test_a_task_is_prepared_once_a_worker(executor, monitor, tmp_path):
    list(mapped(executor, monitor, Square(tmp_path), [[n] for n in range(12)]))
    prepared = {p.name.removeprefix("prepared-") for p in tmp_path.glob("prepared-*")}
    workers = {p.name.rpartition("-")[2] for p in tmp_path.glob("unit-*")}
    assert workers <= prepared
    assert len(prepared) <= 4


@ray_in_the_drill
def test_an_object_that_a_unit_puts_can_be_got_by_its_reference(executor, monitor, tmp_path):
    done = list(mapped(executor, monitor, Square(tmp_path, puts=True), [[3], [5]]))
    refs = {d.unit: d.ref for d in done}
    assert {unit: int(executor.get(refs[unit])[-1]) for unit in refs} == {3: 3, 5: 5}
    executor.run_group(Sum(tmp_path / "sum", refs=refs), engine=executor.engine(), monitor=monitor)
    assert str(dict(sorted({3: 3, 5: 5}.items()))) in sorted_text(tmp_path / "sum")


def sorted_text(path):
    head, _, pairs = path.read_text().partition("{")
    return head + "{" + ", ".join(sorted(pairs.strip("}").split(", "))) + "}"


def test_what_is_wrong_for_all_stops_the_work_at_once(executor, monitor, tmp_path):
    task = Square(tmp_path, refuses=frozenset({1}), seconds=0.05)
    with pytest.raises(InputError, match="unit 1 is refused"):
        list(mapped(executor, monitor, task, [list(range(200))]))
    assert task.tries(199) == 0
    (done,) = mapped(executor, monitor, Square(tmp_path), [[300]])
    assert done.result == 90_000


def test_a_unit_that_cannot_be_done_fails_the_work_at_its_end(executor, monitor, tmp_path):
    task = Square(tmp_path, fails=frozenset({1, 4}))
    work = mapped(executor, monitor, task, [[0, 1, 2], [3, 4, 5]])
    assert sorted(next(work).unit for _ in range(4)) == [0, 2, 3, 5]
    with pytest.raises(DfshieldError, match=r"unit [14] cannot be done \(and 1 more"):
        next(work)
    assert task.tries(1) == task.tries(4) == 1


@pytest.mark.parametrize("error", [InputError("cannot import x"), DfshieldError("no memory")])
def test_a_task_that_cannot_be_prepared_is_an_error_of_one_line(executor, monitor, error):
    with pytest.raises(type(error), match=str(error)) as raised:
        list(mapped(executor, monitor, BadStart(error), [[0]]))
    assert "\n" not in str(raised.value)


def test_a_job_returns_its_result(executor, monitor):
    assert executor.run(Device(), engine=executor.engine(), monitor=monitor) == "cpu"


@ray_in_the_drill
def test_a_group_adds_up_over_its_workers(executor, monitor, tmp_path):
    executor.run_group(Sum(tmp_path / "sum"), engine=executor.engine(), monitor=monitor)
    total, ranks = re.match(r"([\d.]+) (\[.*\])", (tmp_path / "sum").read_text()).groups()
    size = len(ranks.split(","))
    assert ranks == str(list(range(size)))
    assert float(total) == size * (size + 1) / 2
    assert [e["total"] for e in monitor.all("added")] == [float(total)]


@ray_in_the_drill
def test_an_error_of_a_group_is_raised_as_it_is(executor, monitor, tmp_path):
    with pytest.raises(DfshieldError, match=r"^it diverged$"):
        executor.run_group(
            Sum(tmp_path / "sum", fails="it diverged"), engine=executor.engine(), monitor=monitor
        )
    assert not (tmp_path / "sum").exists()
