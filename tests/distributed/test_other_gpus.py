"""Workers of two kinds, by the numbers that they compute: refused or kept out, in one line."""

import pytest
from contract_tasks import First, TwoKinds
from test_executor_contract import Recorder, mapped

from dfshield.errors import OtherDeviceError

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.drill]


def test_a_group_with_another_gpu_is_refused_and_not_tried_again(on_cluster):
    monitor = Recorder()
    with pytest.raises(
        OtherDeviceError, match=r"^an H100: .* than an A100, .* --replan$"
    ) as raised:
        on_cluster.run_group(TwoKinds(on_gpu=True), engine=on_cluster.engine(), monitor=monitor)
    assert "\n" not in str(raised.value)
    assert monitor.all("trained") == []
    assert len(monitor.all("worker_started")) == 2
    assert monitor.retries == 0


def test_a_group_with_another_processor_goes_on_with_one_warning(on_cluster):
    monitor = Recorder()
    on_cluster.run_group(TwoKinds(on_gpu=False), engine=on_cluster.engine(), monitor=monitor)
    assert [e["canary"] for e in monitor.all("trained")] == ["A100"]
    assert [e["device"] for e in monitor.all("canary_differs")] == ["an H100"]
    (line,) = [line for line in monitor.said if "computes other numbers" in line]
    assert line.startswith("an H100: computes other numbers than an A100")


def test_parts_are_made_by_the_kind_that_was_first_and_others_get_none(on_cluster):
    monitor, groups = Recorder(), [[n] for n in range(6)]
    while len({e["own"] for e in monitor.all("agreed")}) < 2:  # both have started
        list(mapped(on_cluster, monitor, First(), groups))
    done = list(mapped(on_cluster, monitor, First(refuses_others=True), groups))
    assert sorted(d.unit for d in done) == list(range(6))
    assert all(own == agreed for own, agreed in (d.result for d in done))
    assert len({d.worker for d in done}) == 1
    (line,) = [line for line in monitor.said if "cannot take part" in line]
    assert "an A100, but an H100 began" in line
    assert line.endswith("; others go on")
