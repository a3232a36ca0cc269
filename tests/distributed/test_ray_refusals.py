"""`dfshield` on Ray: what it refuses in one line, and what it does where Ray is not installed."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from ray_head import PACKAGE, gone_within, processes, running_head
from tiny_run import call, contents, ended, odd_teacher, run_of, start, write_config

import dfshield

ODD_FACTORIES = Path(__file__).parents[1] / "classifiers"

# Python runs it first when its folder is on PYTHONPATH.
WITHOUT_RAY = """
import sys


class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoRay())
"""


@pytest.fixture(scope="module")
def shadows(tmp_path_factory):
    """Folders that other machines of the cluster see otherwise: as another one, and read-only."""
    folder = tmp_path_factory.mktemp("shadows")
    for name in ("other", "readonly"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def head(shadows):
    """A running Ray whose processes have file systems of their own in the place of `shadows`."""
    mounts = (
        'cd "$0" && mount -t tmpfs tmpfs other && mount --bind readonly readonly '
        '&& mount -o remount,bind,ro readonly && exec "$@"'
    )
    apart = ["unshare", "--mount", "sh", "-c", mounts, str(shadows)]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        apart = ["unshare", "--map-root-user", *apart[1:]]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    with running_head(within=apart) as env:
        yield env


def refused(env, *args, **changes):
    """Return the line with which a process of `dfshield` refuses."""
    return ended(start(*args, env=env | changes)).refusal()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("other", "is another folder there than here"),
        pytest.param("readonly", "cannot be written there", marks=pytest.mark.drill),
    ],
)
def test_a_folder_that_a_node_does_not_share_or_cannot_write_is_named(head, shadows, folder, words):
    config = write_config(shadows / folder)
    line = refused(head, "run", config, "cluster.address=auto")
    assert f"node {socket.gethostname()}: storage.path" in line
    assert words in line
    assert str(shadows / folder / "runs") in line
    assert not [name for name in contents(shadows / folder) if ".dfshield" in name]


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_with_another_dfshield_is_named_with_both_versions(head, tmp_path):
    copy = tmp_path / "other" / "dfshield"
    shutil.copytree(PACKAGE / "dfshield", copy)
    source = (copy / "__init__.py").read_text()
    (copy / "__init__.py").write_text(source.replace(dfshield.__version__, "99.0"))
    config = write_config(tmp_path)
    changes = {"PYTHONPATH": str(copy.parent)}
    line = refused(head, "run", config, "cluster.address=auto", **changes)
    assert f"node {socket.gethostname()} has dfshield {dfshield.__version__}" in line
    assert "99.0" in line


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_with_another_ray_is_named_with_both_versions(head, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '1.2.3'\n")
    config = write_config(tmp_path)
    changes = {"PYTHONPATH": f"{tmp_path}:{PACKAGE}"}
    line = refused(head, "run", config, "cluster.address=auto", **changes)
    assert f"the Ray at {head['RAY_ADDRESS']} differs" in line
    assert "1.2.3" in line


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
def test_more_workers_than_cpus_is_one_line_and_ends_its_ray(home, tmp_path):
    config = write_config(tmp_path)
    many = ("cluster.address=local", "cluster.num_workers=1000")
    line = refused(home, "run", config, *many)
    assert "cluster.num_workers: 1000 wanted, but Ray has" in line
    assert not gone_within(set(processes(home)), seconds=10)


@pytest.mark.ray
@pytest.mark.parametrize(
    "kind",
    ["nothing in train mode", pytest.param("softmax in train mode", marks=pytest.mark.drill)],
)
def test_a_model_that_cannot_be_trained_is_refused_before_any_part(home, tmp_path, kind):
    config = write_config(tmp_path, teacher=odd_teacher(kind))
    changes = {"PYTHONPATH": f"{ODD_FACTORIES}:{PACKAGE}"}
    assert "train mode" in refused(home, "run", config, "cluster.address=local", **changes)
    run = run_of(config)
    assert not list(run.rglob("*.parquet"))
    told = (run / "events.jsonl").read_text() if run.exists() else ""
    assert "retried" not in told
    assert "worker_lost" not in told


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cluster.address=5", "cluster.address: text was expected (got 5)"),
        ("cluster.address=''", "cluster.address: String should have at least 1 character"),
        ("cluster.num_workers=two", "cluster.num_workers: Input should be a valid integer"),
        ("cluster.num_workers=0", "cluster.num_workers: Input should be greater than"),
        ("cluster.gpus_per_worker=2", "cluster.gpus_per_worker: Input should be less than"),
        ("cluster.wait=-1", "cluster.wait: Input should be greater than"),
        ("cluster={num_workers: 1, min_workers: 2}", "min_workers: 2 is more than num_workers = 1"),
        ("cluster.max_retries=-1", "cluster.max_retries: Input should be greater than"),
        ("cluster.max_retries=null", "cluster.max_retries: Input should be a valid integer"),
        ("cluster.adress=local", "cluster.adress: unknown key; did you mean 'address'?"),
        ("cluster=local", "cluster: a section of settings was expected"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(tmp_path, override, words):
    assert words in call("run", write_config(tmp_path), override).refusal()


# ---------------------------------------------------------------- without Ray


@pytest.fixture
def without_ray(home, tmp_path):
    """An environment in which Ray cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_RAY)
    return home | {"PYTHONPATH": f"{tmp_path}:{PACKAGE}"}


@pytest.mark.drill
def test_a_missing_ray_is_one_line(without_ray, tmp_path):
    config = write_config(tmp_path / "fresh")
    line = refused(without_ray, "run", config, "cluster.address=local")
    assert "pip install 'ray[default,train,tune]'" in line
    assert "cluster.address=none" in line


@pytest.mark.parametrize(
    "words",
    [
        "run CONFIG cluster.address=local",
        "status RUN",
        pytest.param("verify RUN", marks=pytest.mark.drill),
        pytest.param("config show CONFIG", marks=pytest.mark.drill),
    ],
)
def test_what_needs_no_work_needs_no_ray(tiny, without_ray, words):
    config = tiny()
    names = {"CONFIG": config, "RUN": run_of(config)}
    command = [names.get(word, word) for word in words.split()]
    answer = ended(start(*command, env=without_ray))
    assert answer.code == 0, answer
    assert "Ray" not in answer.err
