"""Reading the tables from their files, which are part of the package."""

from functools import cache
from importlib.resources import files

import yaml
from pydantic import ValidationError

from dfshield.checks import one_of
from dfshield.errors import InputError, one_line
from dfshield.paper.table import PaperTable
from dfshield.validation import first_problem

TABLE_IDS = tuple(f"table-{number}" for number in range(1, 27))
"""The paper's tables, in its order."""


@cache
def paper_table(table_id: str) -> PaperTable:
    """Return a table of the paper.

    Args:
        table_id: one of `TABLE_IDS`.

    Raises:
        InputError: for any other, naming the nearest.
    """
    name = f"{one_of(TABLE_IDS, table_id, 'TABLE')}.yaml"
    text = (files("dfshield.paper") / "tables" / name).read_text(encoding="utf-8")
    return read_table(text, source=name)


def read_table(text: str, *, source: str) -> PaperTable:
    """Return the table that a YAML text holds.

    Args:
        text: what a file of tables holds.
        source: how errors call it, such as the path of the file.

    Raises:
        InputError: in one line, for text that is no YAML or no such table.
    """
    try:
        return PaperTable.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML: {one_line(error)}") from None
    except ValidationError as error:
        raise InputError(f"{source}: {first_problem(error)}") from None
