"""The command ``methods``: the variants of every family, taken from the code."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dfshield.cli.machine_output import print_json
from dfshield.cli.options import AsJson
from dfshield.errors import InputError

Listing = Mapping[str, Mapping[str, Any]]
"""What `Family.listing` returns: summary and options of every variant."""


def methods(
    family: Annotated[
        str | None,
        typer.Argument(help="One family, with what each option means.", metavar="FAMILY"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods that a configuration can name, with their options and defaults.

    A configuration names one by its name, or with options: {name: pgd, num_steps: 50}.

    Example: dfshield methods attacks
    """
    from rich.console import Console

    from dfshield.checks import nearest
    from dfshield.config import FAMILIES

    if family is not None and family not in FAMILIES:
        raise InputError(f"FAMILY: {family!r} is unknown: {nearest(family, FAMILIES)}")
    chosen = FAMILIES if family is None else {family: FAMILIES[family]}
    listings = {name: load().listing() for name, load in chosen.items()}
    console = Console(highlight=False)
    if as_json:
        print_json(listings)
    elif console.is_terminal:
        for name, listing in listings.items():
            _print_table(console, name, listing, described=family is not None)
    else:
        for name, listing in listings.items():
            _print_lines(name, listing, described=family is not None)


def _print_table(console: Any, family: str, listing: Listing, *, described: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=family, title_justify="left", show_lines=described)
    for column in ("Name", "What it is", "Options"):
        table.add_column(column, overflow="fold")
    for name, variant in listing.items():
        cells = (name, variant["summary"], _options(variant, described=described))
        table.add_row(*map(escape, cells))
    console.print(table)


def _print_lines(family: str, listing: Listing, *, described: bool) -> None:
    typer.echo(family)
    for name, variant in listing.items():
        typer.echo(f"  {name}: {variant['summary']}")
        for line in _options(variant, described=described).splitlines():
            typer.echo(f"    {line}")


def _options(variant: Mapping[str, Any], *, described: bool) -> str:
    options = variant["options"].items()
    if described:
        return "\n".join(f"{_with_default(*o)}: {o[1]['description']}" for o in options)
    return ", ".join(_with_default(*option) for option in options)


def _with_default(name: str, option: Mapping[str, Any]) -> str:
    if "default" in option:
        value = option["default"]  # as a configuration writes it
        return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
    return f"{name} ({'required' if option['required'] else 'from the run'})"
