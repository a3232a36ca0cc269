"""README.md and the pages beside it: what they name exists, what they show works as written."""

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from dfshield.cli.main import application
from dfshield.config import Config, apply_override, config_from
from dfshield.runs.inputs.attack_plans import attacks_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "pipeline" / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "cluster" / "README.md"]
COMMANDS = typer.main.get_command(application())
SCHEMA = Config.model_json_schema()

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
KEY = re.compile(rf"(?:{'|'.join(SCHEMA['properties'])})(?:\.\w+)+(?==|$)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def inline(page: Path) -> list[str]:
    """What stands between single backticks, outside blocks."""
    return CODE.findall(BLOCK.sub("", page.read_text()))


def named_files(page: Path) -> dict[str, str]:
    """The blocks that begin with the name of a file, by that name."""
    found = [re.match(r"# (\w+\.\w+)\n", text) for _, text in BLOCK.findall(page.read_text())]
    return {name[1]: name.string for name in found if name}


def own() -> dict:
    """The configuration that the README calls mine.yaml."""
    return yaml.safe_load(named_files(README)["mine.yaml"])


def lines_of_dfshield(page: Path) -> Iterator[list[str]]:
    """Give the words that follow `dfshield`, of every command that a block shows."""
    for text in blocks(page, "bash"):
        for line in re.split(r"\n|&&", text.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if "--" in words:  # ray job submit OPTIONS -- COMMAND
                words = words[words.index("--") + 1 :]
            while words and re.match("[A-Z_]+=", words[0]):
                words = words[1:]
            if words[:1] == ["dfshield"]:
                yield words[1 : words.index(">") if ">" in words else None]


def command_of(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """Return the command that words name, and what follows."""
    command = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def checked(tree: dict) -> Config:
    """Return a configuration, with its attacks tried."""
    config = config_from(tree)
    attacks_of(config)
    return config


def anchors(page: Path) -> set[str]:
    """What a link may name behind # in a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def below(schema: dict, name: str) -> list[dict]:
    """Return what a schema says of a key, one for each kind of section it may be in."""
    if "$ref" in schema:
        return below(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], name)
    kinds = [kind for way in ("anyOf", "oneOf", "allOf") for kind in schema.get(way, ())]
    kinds += [schema[branch] for branch in ("then", "else") if branch in schema]
    found = [inner for kind in kinds for inner in below(kind, name)]
    if name in schema.get("properties", {}):
        return [*found, schema["properties"][name]]
    return [*found, {}] if schema.get("additionalProperties") else found


def is_key(path: str) -> bool:
    sections = [SCHEMA]
    for name in path.split("."):
        sections = [inner for section in sections for inner in below(section, name)]
    return bool(sections)


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(README.read_text().splitlines()) < 180
    assert {f"pipeline/docs/{page.name}" for page in DOCS} <= {
        link.partition("#")[0] for link in LINK.findall(README.read_text())
    }


@every_page
def test_links_to_files_and_headings_of_the_repository_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if not re.match("https?:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@every_page
def test_configurations_load(page):
    for text in blocks(page, "yaml"):
        tree = yaml.safe_load(text)
        config = checked(tree if "teacher" in tree else own() | tree)
        assert all(map(is_key, config.sweep.parameters)), text


@every_page
def test_commands_name_commands_options_and_keys_that_there_are(page):
    for words in lines_of_dfshield(page):
        command, arguments = command_of(words)
        parser = command.make_parser(command.context_class(command))
        given, left, _ = parser.parse_args([*arguments])
        assert not left, words
        example = ROOT / (given.get("config") or "mine.yaml")
        tree = yaml.safe_load(example.read_text()) if example.is_file() else own()
        for word in arguments:
            if re.match(r"[a-z]\w*[.\w]*=", word):
                apply_override(tree, word)
        checked(tree)


@every_page
def test_what_is_named_in_the_text_exists(page):
    for code in inline(page):
        if code.startswith("dfshield "):
            command, arguments = command_of(re.sub(r"[][]|\.\.\.", "", code).split()[1:])
            known = {name for option in command.params for name in option.opts}
            assert {word for word in arguments if word.startswith("--")} <= known, code
        elif key := KEY.match(code):
            assert is_key(key[0]), code
        elif re.fullmatch(r"dfshield(\.\w+)+", code):
            *modules, name = code.split(".")
            assert hasattr(importlib.import_module(".".join(modules)), name), code


@every_page
def test_python_imports_what_there_is_and_calls_it_with_arguments_that_there_are(page):
    for text in blocks(page, "python"):
        tree = ast.parse(text)
        imported = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("dfshield"):
                module = importlib.import_module(node.module)
                imported |= {name.name: getattr(module, name.name) for name in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in imported:
                keywords = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(imported[node.func.id]).bind_partial(**keywords)


FEW = ("synthesis.num_images=200", "synthesis.iterations=10", "training.epochs=1")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sizes", [FEW, pytest.param((), marks=pytest.mark.drill)])
def test_the_classifier_of_the_readme_is_hardened_as_it_says(sizes, tmp_path):
    """With the settings that stand there; AutoAttack alone is left out, for its time."""
    files = named_files(README) | named_files(ROOT / "pipeline" / "docs" / "own-models.md")
    assert set(files) == {"mymodel.py", "mine.yaml", "standin.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "standin.py")
    dfshield, alone = str(Path(sys.executable).with_name("dfshield")), "cluster.address=none"
    if not sizes:
        run(dfshield, "doctor", "mine.yaml", alone)
    pgd = "evaluation.attacks=[{name: pgd}]"
    results = json.loads(run(dfshield, "run", "mine.yaml", alone, pgd, *sizes, "--json"))["results"]
    accuracy = {(result["model"], result["label"]): result["accuracy"] for result in results}
    assert len(accuracy) == 4
    if not sizes:
        assert accuracy["student", "PGD-20"] > accuracy["teacher", "PGD-20"] + 0.05
        assert accuracy["student", "clean"] > 0.85
