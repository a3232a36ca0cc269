"""The page of the documentation that is a notebook: its cells run, and give what stands there."""

import ast
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "pipeline" / "docs" / "library.ipynb"
MODELS = ("teacher", "student")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def run(source, names):
    """Return what a cell prints, and the value of its last line, as Jupyter shows them."""
    tree = ast.parse(source)
    last = ast.parse("None", mode="eval").body
    if isinstance(tree.body[-1], ast.Expr):
        last = tree.body.pop().value
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, str(PAGE), "exec"), names)
        value = eval(compile(ast.Expression(last), str(PAGE), "eval"), names)
    return printed.getvalue() + ("" if value is None else repr(value))


def stated(cell):
    return "".join(
        "".join(output["text"] if "text" in output else output["data"]["text/plain"])
        for output in cell["outputs"]
    )


def as_text_and_numbers(text):
    return NUMBER.sub("#", text), [float(number) for number in NUMBER.findall(text)]


@pytest.mark.slow
def test_every_cell_gives_what_the_page_states(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    cells = [c for c in json.loads(PAGE.read_text())["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        text, numbers = as_text_and_numbers(run("".join(cell["source"]), names))
        expected, figures = as_text_and_numbers(stated(cell))
        assert text == expected
        assert numbers == pytest.approx(figures, abs=0.1)  # other machines round otherwise
    assert len(cells) == 10
    teacher, student = (
        names["evaluate"](names[name], names["test"], names["pgd"]) for name in MODELS
    )
    # What it says in words.
    assert student.accuracy > teacher.accuracy + 0.05
    assert names["clean"].accuracy > 0.9
    assert names["report"].verdict in ("pass", "warn")
    assert len(names["report"].checks) == 16
    assert (tmp_path / "hardened" / "model.safetensors").exists()
    assert all(weight.requires_grad for weight in names["teacher"].parameters())


def test_the_page_is_linked_and_whole():
    assert "pipeline/docs/library.ipynb" in (ROOT / "README.md").read_text()
    page = json.loads(PAGE.read_text())
    assert page["nbformat"] == 4
    ids = [cell["id"] for cell in page["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
