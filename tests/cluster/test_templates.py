"""All launch templates: placeholders that are explained, no secrets; and the container image."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
from launch_templates import CLUSTER, PLACEHOLDER, ROOT, TEMPLATES, read

CONTAINERFILE = (CLUSTER / "Containerfile").read_text().replace("\\\n", " ")
INSTRUCTIONS = re.findall(r"(?m)^([A-Z]+) (.+)$", CONTAINERFILE)
README = (CLUSTER / "README.md").read_text()


def names(path) -> set[str]:
    """The placeholders of a file."""
    return set(PLACEHOLDER.findall(path.read_text()))


def test_every_placeholder_is_explained_and_every_one_explained_exists():
    assert set().union(*map(names, TEMPLATES)) == set(PLACEHOLDER.findall(README))
    rows = [line for line in README.splitlines() if line.startswith("| `CHANGE_ME_")]
    assert len(rows) == len(set(PLACEHOLDER.findall(README)))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_says_how_it_is_used_and_what_its_placeholders_mean(path):
    lines = path.read_text().splitlines()
    opening = "\n".join(lines[:5])
    assert f"cluster/{path.relative_to(CLUSTER)}" in opening
    assert str(path.relative_to(CLUSTER)) in README
    for i, line in enumerate(lines):
        if PLACEHOLDER.search(line):
            assert any("#" in near for near in lines[max(0, i - 4) : i + 1]), line
            assert not line.lstrip().startswith("# "), "a comment cannot be filled in"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_secret(path):
    text = path.read_text()
    assert not re.search(r"\b[A-Za-z0-9+/=]*[0-9][A-Za-z0-9+]{31,}\b", text)
    assert not re.search(r"(?i)(password|secret|token)['\"]?[:=] *['\"]?[0-9a-z]{8,}", text)
    assert "RAY_AUTH_TOKEN=" not in text
    assert "PRIVATE KEY" not in text


def test_the_image_is_of_an_unprivileged_user_and_takes_nothing_but_the_package():
    kinds = [kind for kind, _ in INSTRUCTIONS]
    user = kinds.index("USER")
    assert "RUN" not in kinds[user:]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", INSTRUCTIONS[user][1])
    copied = [source for kind, line in INSTRUCTIONS if kind == "COPY" for source in line.split()]
    assert set(copied) == {"pyproject.toml", "README.md", "LICENSE", "pipeline", "./"}
    (packages,) = [line for kind, line in INSTRUCTIONS if "apt-get" in line]
    assert {"bash", "procps", "wget", "g++"} <= set(packages.split())


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_machines_can_compile(name):
    """A C++ compiler and Python's headers are installed before dfshield is."""
    (install,) = [line for line in read(name)["setup_commands"] if "install --yes" in line]
    assert {"python3-venv", "python3-dev", "g++"} <= set(install.split())


def test_an_image_and_a_machine_by_hand_have_what_compiles():
    assert re.search(r"^FROM python:", CONTAINERFILE, re.MULTILINE)  # whose headers are there
    for page in ("onpremise.yaml", "README.md"):
        assert {"python3-dev", "g++"} <= set(re.findall(r"[\w+-]+", (CLUSTER / page).read_text()))


def test_the_image_has_the_torch_that_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = [name for name in project["dependencies"] if name.startswith("torch")]
    assert any(kind == "RUN" and f"'{torch}'" in line for kind, line in INSTRUCTIONS)


@pytest.mark.slow
@pytest.mark.drill
def test_the_commands_of_the_image_install_a_dfshield_that_runs(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    context = tmp_path / "context"
    context.mkdir()
    for kind, line in INSTRUCTIONS:
        if kind == "COPY":
            *sources, target = line.split()
            for source in map(ROOT.joinpath, sources):
                into = context / (source.name if target == "./" else target)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, into)
    installs = [line for kind, line in INSTRUCTIONS if kind == "RUN" and "pip install" in line]
    assert len(installs) == 2
    path = f"PATH={shlex.quote(str(tmp_path / 'env' / 'bin'))}:$PATH"
    for command in (*installs, "cd / && dfshield --version && ray --version"):
        subprocess.run(
            ["env", "-u", "PYTHONPATH", "bash", "-c", f"{path}; TORCH_INDEX=; {command}"],
            cwd=context,
            check=True,
        )
