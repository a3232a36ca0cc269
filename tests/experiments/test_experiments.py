"""The paper's tables as experiments: complete, valid at every scale, and shared where equal."""

import pytest

from dfshield.errors import InputError
from dfshield.experiments import EXPERIMENT_IDS, NOT_RUN, SCALES, experiment, scale
from dfshield.paper import TABLE_IDS
from dfshield.runs import RunLayout
from dfshield.runs.reproduction import reproduction
from dfshield.runs.sweep.identity import sweep_identity


def cases_of(name, size, **given):
    found = reproduction(experiment(name), scale(size), **given)
    return found, dict(zip((tuple(c.keys.values()) for c in found.cells), found.names, strict=True))


TABLES = [name for name in EXPERIMENT_IDS if name.startswith("table-")]
FIGURES = [name for name in EXPERIMENT_IDS if name.startswith("fig-") and name != "fig-3"]


def test_every_table_and_figure_is_run_or_said_not_to_be():
    figures = [f"fig-{number}" for number in range(1, 15)]
    assert {*EXPERIMENT_IDS, *NOT_RUN} == {*TABLE_IDS, *figures}
    assert not set(EXPERIMENT_IDS) & set(NOT_RUN)


@pytest.mark.parametrize("name", TABLES)
def test_every_key_of_a_table_is_run_or_said_not_to_be(name):
    table = experiment(name)
    cells = list(table.cells(scale("paper")))
    missing = table.missing(scale("paper"))
    assert not any("no images" in reason for reason in missing.values())
    run = {(f, str(k)) for cell in cells for f, k in cell.keys.items()}
    printed = {(f, str(k)) for cell in table.table.cells for f, k in cell.keys.items()}
    assert {key for _, key in printed - run} == set(missing)
    # Every student that is run is one of the paper's cells.
    assert all(table.table.select(**cell.keys) for cell in cells if len(cell.keys) > 3)
    assert table.attacks.keys() <= table.table.metrics.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_all_its_cells_as_printed(name):
    figure, size = experiment(name), scale("paper")
    cells = list(figure.cells(size))
    assert {cell.place.model for cell in cells} <= set(figure.models)
    places = [p for p in size.places if p.data in figure.data and p.model in figure.models]
    images = {f"{place.data}-train" for place in size.places if "train" in place.named}
    rows = [
        row
        for row in figure.rows(size)
        if figure.picture.kind != "matrix" or f"{row['trained_on']}-train" in images
    ]
    assert len(cells) == len(places) * len(rows) > 0
    assert figure.options(size).keys() == figure.picture.options.keys()


@pytest.mark.parametrize("size", SCALES)
@pytest.mark.parametrize(
    "name",
    ["fig-4", "fig-5", "fig-8", "fig-9", "table-1", "table-5", "table-6", "table-8", "table-15"],
)
def test_every_cell_is_a_valid_configuration(name, size, monkeypatch):
    monkeypatch.setenv("DFSHIELD_DATA", "/nowhere")
    found, cases = cases_of(name, size)
    trials = found.trials
    assert set(trials) == set(cases.values())
    assert all(len(of_cell) == 1 for of_cell in trials.values())


def test_a_cell_has_the_settings_that_its_keys_say():
    found, cases = cases_of("table-15", "paper")
    trials = found.trials
    (trial,) = trials[cases["8/255", "DataFreeShield", "cifar10", "wrn28_10"]]
    assert trial.config.threat.eps == "8/255"
    assert trial.config.teacher.source == "pytorchcv:wrn28_10_cifar10"
    assert trial.config.training.epochs == 100
    assert trial.config.synthesis.num_images == 60_000
    (reference,) = trials[cases["8/255", "Original", "cifar10", "resnet20"]]
    assert reference.config.training.images.labels == "hard"
    assert reference.config.training.images.data.split == "train"
    assert not reference.config.data_free


def test_keys_that_a_scale_leaves_out_are_the_tables_own_and_said():
    for name in EXPERIMENT_IDS:
        one = experiment(name)
        for size, left_out in getattr(one, "left_out", {}).items():
            at = scale(size)
            for field, keys in left_out.items():
                assert set(keys) < {cell.keys[field] for cell in one.table.cells}
                assert not {cell.keys[field] for cell in one.cells(at)} & set(keys)
                assert {f"{field} {key}" for key in keys} <= one.missing(at).keys()
    assert experiment("table-14").size(scale("smoke")) == 2 * 6
    assert experiment("table-14").size(scale("paper")) == 4 * 6 * 3


def test_the_ablation_is_cumulative():
    found, cases = cases_of("table-8", "smoke")
    settings = found.config.sweep.cases["cell"]
    plain, objective, dss, whole = (settings[name] for name in cases.values())
    fixed, trades = "synthesis.method.coefficients.rule", "training.objective"
    alone = {"training.gradrefine.num_batches": 1}
    assert plain == {fixed: "fixed", trades: "trades", **alone}
    assert objective == {fixed: "fixed", **alone}
    assert (dss, whole) == (alone, {})


def test_tables_with_the_same_student_share_it():
    at_four = cases_of("table-15", "paper")[1]["4/255", "DataFreeShield", "cifar10", "resnet20"]
    ours = cases_of("table-4", "paper")[1]["Ours", "cifar10", "resnet20"]
    tau = cases_of("table-24", "paper")[1]
    weights = cases_of("table-26", "paper")[1][1, 1, "cifar10", "resnet20"]
    assert at_four == ours == weights
    assert (
        tau[0.5, "cifar10", "wrn28_10"]
        == cases_of("table-4", "paper")[1]["Ours", "cifar10", "wrn28_10"]
    )
    # The same sweep, so the same folder; what is measured in another norm has its own.
    names = [cases_of(n, "paper")[0].config.sweep.name for n in ("table-4", "table-15", "table-5")]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("size", SCALES)
def test_tables_of_one_sweep_have_its_identity(size, monkeypatch):
    """Else the second table would be refused in the folder of the first."""
    monkeypatch.setenv("DFSHIELD_DATA", "/nowhere")
    found = {}
    for name in EXPERIMENT_IDS:
        if not list(experiment(name).cells(scale(size))):
            continue
        config = reproduction(experiment(name), scale(size)).config
        identity = sweep_identity(config, RunLayout.of(config))
        assert found.setdefault(config.sweep.name, identity) == identity
    assert len(found) == 2  # l_inf and l_2


def test_cells_are_chosen_by_their_keys():
    _, cases = cases_of("table-7", "paper", only=["svhn", "STD"])
    assert list(cases) == [("STD", "svhn", "wrn28_10")]
    with pytest.raises(InputError, match="--only: no cell has 'resnet18': known are STD"):
        cases_of("table-7", "paper", only=["resnet18"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: experiment("table-70"), "ID: .*did you mean 'table-7'"),
        (lambda: scale("smok"), "--scale: .*did you mean 'smoke'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(call, words):
    with pytest.raises(InputError, match=words):
        call()
