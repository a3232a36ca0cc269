"""ARCHITECTURE.md against the tree: its paths exist, and what it says to touch is what there is."""

import ast
import re
from pathlib import Path

import pytest

import dfshield
from dfshield.config import FAMILIES

PACKAGE = Path(dfshield.__file__).parent
REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "pipeline" / "ARCHITECTURE.md").read_text()
ROWS = re.findall(r"^\| an? ([a-z -]+) \| `(\S+)` \| `(\S+)` \|$", PAGE, re.MULTILINE)
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_file_it_names_exists():
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]*\.py)`", PAGE))
    assert len(named) > 30
    missing = [
        name for name in named if not ((PACKAGE / name).exists() or (REPOSITORY / name).exists())
    ]
    assert not missing


def test_the_map_names_every_package():
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for name in there:
        assert re.search(rf"\b{name}/", PAGE), name


def test_the_table_has_every_family():
    assert {registry for _, _, registry in ROWS} >= {
        str(registry_of(family).relative_to(PACKAGE)) for family in FAMILIES
    }


def registry_of(family: str) -> Path:
    """Return the file that registers the variants of a family, found by one of them."""
    variant = next(iter(FAMILIES[family]().values()))
    folder = Path(PACKAGE.parent, *variant.__module__.split(".")).parent
    return folder / "registry.py"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variant_is_named_in_its_registry_and_nowhere_else_in_code(family):
    """Its own file, its package's face and the registry aside: one file and one line add it."""
    registry = registry_of(family)
    assert registry.is_file()
    for variant in FAMILIES[family]().values():
        own = Path(PACKAGE.parent, *variant.__module__.split(".")).with_suffix(".py")
        allowed = {own, registry, registry.parent / "__init__.py"}
        assert variant.__name__ in registry.read_text()
        using = {p for p in sources() if re.search(rf"\b{variant.__name__}\b", p.read_text())}
        others = {p for p in using - allowed if not is_prose_or_parent(p, variant.__name__)}
        assert not others, (variant.__name__, others)


def is_prose_or_parent(path: Path, name: str) -> bool:
    """Whether a file names a variant in docstrings alone, or builds upon its class."""
    tree = ast.parse(path.read_text())
    bases = {
        b.id
        for c in ast.walk(tree)
        if isinstance(c, ast.ClassDef)
        for b in c.bases
        if isinstance(b, ast.Name)
    }
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return name in bases or name not in names


def test_files_and_functions_are_of_bearable_length():
    too_long = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > LONGEST_FILE:
            too_long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
                    too_long.append(f"{path}: {node.name}")
    assert not too_long
