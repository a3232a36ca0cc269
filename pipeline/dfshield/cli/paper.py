"""The command ``paper``: the tables of the paper, from their data files."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson
from dfshield.errors import InputError

if TYPE_CHECKING:
    from dfshield.paper import PaperTable


def paper(
    table: Annotated[
        str | None,
        typer.Argument(help="table-1 to table-26; all are listed without.", metavar="[TABLE]"),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV: a line per number.")] = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="As LaTeX, with the packages booktabs and amssymb.")
    ] = False,
) -> None:
    """Print a table of the paper (Lee et al., ICML 2024): its numbers as they are printed there.

    Footnotes say which numbers conflict with others or cannot be, and what our copy of the paper
    lacks. Where the output is no terminal, it is Markdown.

    Example: dfshield paper table-4 --csv
    """
    form = _form_of({"--json": as_json, "--markdown": markdown, "--csv": csv, "--latex": latex})
    if table is None:
        if form not in ("", "--json"):
            raise InputError(f"{form}: goes with a TABLE, as in dfshield paper table-4 {form}")
        _print_list(as_json=as_json)
        return
    from rich.console import Console

    from dfshield.paper import paper_table
    from dfshield.report.paper_table import csv_table, latex_table, markdown_table, table_values

    found, console = paper_table(table), Console(highlight=False)
    if as_json:
        print_json(table_values(found))
    elif csv:
        typer.echo(csv_table(found), nl=False)
    elif latex:
        typer.echo(latex_table(found), nl=False)
    elif markdown or not console.is_terminal:
        typer.echo(markdown_table(found), nl=False)
    else:
        _print_table(found)


def _form_of(options: Mapping[str, bool]) -> str:
    """Return the option that says how to print, or "".

    Raises:
        InputError: if there are several.
    """
    given = [option for option, wanted in options.items() if wanted]
    if len(given) > 1:
        raise InputError(f"{given[1]}: does not go with {given[0]}: give one of them")
    return given[0] if given else ""


def _print_list(*, as_json: bool) -> None:
    from dfshield.paper import TABLE_IDS, paper_table

    tables = [paper_table(table_id) for table_id in TABLE_IDS]
    if as_json:
        print_json([t.model_dump(include={"id", "title", "measured", "data"}) for t in tables])
    else:
        for each in tables:
            typer.echo(f"{each.id}: {each.title}")


def _print_table(table: "PaperTable") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from dfshield.report.paper_table import table_headings, table_notes, table_rows

    shown = Table(
        title=escape(f"Table {table.number}. {table.title}. {table.measured}"),
        caption="\n".join(escape(f"{sign} {text}".strip()) for sign, text in table_notes(table)),
        title_justify="left",
        caption_justify="left",
    )
    for field in table.row_fields:
        shown.add_column(escape(table.fields[field]))
    for group, metric in table_headings(table):
        shown.add_column(escape(f"{group}\n{metric}".strip()), justify="right")
    for labels, numbers in table_rows(table):
        texts = (" ".join(filter(None, number)) for number in numbers)
        shown.add_row(*map(escape, [*labels, *texts]))
    Console(highlight=False).print(shown)
