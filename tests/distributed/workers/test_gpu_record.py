"""A faulty GPU is told from work that fails everywhere, without Ray."""

import pytest

from dfshield.distributed.workers.gpu_record import GpuRecord


def test_a_gpu_that_fails_twice_is_out():
    record = GpuRecord()
    record.note_failure("a", 1)
    assert not record.is_out("a")
    record.note_failure("a", 2)
    assert record.is_out("a")
    assert record.failures("a") == [1, 2]
    assert not record.is_out("b")


def test_what_it_has_done_in_between_speaks_for_it():
    record = GpuRecord()
    record.note_failure("a", 1)
    record.note_success("a")
    record.note_failure("a", 2)
    assert not record.is_out("a")


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_unit_that_fails_on_two_gpus_is_at_fault_itself(first):
    record = GpuRecord()
    record.note_failure(first, "poison")
    record.note_failure("a", "poison")
    record.note_failure("b", "poison")
    assert not record.is_out("a")
    assert not record.is_out("b")
    record.note_failure("a", "fine")
    assert not record.is_out("a")
    record.note_failure("a", "fine too")
    assert record.is_out("a")


def test_workers_that_cannot_start_count_as_failures_of_their_gpu():
    record = GpuRecord()
    for gpu in ("a", "b", "a"):
        record.note_failure(gpu, None)
    assert record.is_out("a")
    assert not record.is_out("b")


def test_slots_of_cpus_are_never_out():
    record = GpuRecord()
    for unit in range(5):
        record.note_failure("", unit)
    assert not record.is_out("")
