"""What tables and figures would cost here, and what of them one would do for another."""

import pytest
from tiny_reproduction import SMALL

from dfshield.experiments import experiment, scale
from dfshield.runs.reproduction import Costs, Planner, reproduction, total


@pytest.fixture(scope="module")
def costs():
    return Costs()


@pytest.fixture
def planned(costs, tmp_path):
    def of(*names, planner=None, overrides=()):
        planner = planner or Planner(costs)
        given = [*SMALL, *overrides, f"storage.path={tmp_path}"]
        every = [reproduction(experiment(n), scale("smoke"), overrides=given) for n in names]
        return [run for found in every for run in planner.runs(found)]

    return of


def test_costs_are_those_of_the_passes(planned):
    images, student = planned("table-10", overrides=["evaluation.attacks=[{name: pgd}]"])
    assert images.cost.seconds > 0
    twice = [
        *("synthesis.method.iterations=2", "training.epochs=2", "training.inner.num_steps=1"),
        "evaluation.attacks=[{name: pgd, num_steps: 40}]",
    ]
    more_images, more = planned("table-10", overrides=twice)
    assert more_images.cost.seconds == pytest.approx(2 * images.cost.seconds)
    assert more.cost.seconds > student.cost.seconds


def test_what_one_table_does_another_does_not(planned):
    alone = total(planned("table-8"))
    both = planned("table-8", "table-7")
    assert total(both).seconds < alone.seconds + total(planned("table-7")).seconds
    shared = [run for run in both if run.id == "table-7" and run.cost.seconds == 0]
    # The diversified images, and the students without GradRefine on them.
    assert len(shared) == 2
    assert {"L_DFShield, digits, resnet8"} < {run.cell for run in shared}


def test_a_baseline_is_measured_by_its_steps(planned):
    runs = {run.cell: run for run in planned("table-5")}
    assert runs["AIT, digits, resnet8"].cost.seconds > 0
    assert runs["AIT, digits, resnet8"].settings.startswith("method.name ait")


def test_attacks_that_tell_no_passes_are_named(planned):
    (_, student) = planned("table-9")
    assert set(student.cost.uncounted) == {"genattack", "boundary", "spsa", "a3", "automated"}


def test_the_loss_around_students_is_counted(planned):
    runs = planned("fig-4")
    assert runs[-1].cell == "surfaces of 4 students"
    assert runs[-1].cost.seconds > 0


def test_a_set_that_is_changed_is_counted_with_the_one_that_changes_it(costs, tmp_path):
    given = [*SMALL, f"storage.path={tmp_path}"]
    found = reproduction(experiment("table-19"), scale("smoke"), overrides=given, only=["+ Mixup"])
    made, changed, student = Planner(costs).runs(found)
    assert made.cell.startswith("60 images by dss")
    assert made.settings == "synthesis.method.coefficients.rule fixed"
    assert made.cost.seconds > 0
    assert changed.cell.startswith("60 images by mixup")
    assert "synthesis.augment" in changed.settings
    assert changed.cost.seconds == 0
    assert student.cell.startswith("+ Mixup")
