"""The command ``doctor``."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from dfshield.cli.execution import chosen_address, load_settings
from dfshield.cli.machine_output import print_json
from dfshield.errors import DfshieldError

if TYPE_CHECKING:
    from dfshield.runs.doctor.machine import Check

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor_command(
    config: str | None, overrides: Sequence[str], templates: Sequence[str], *, as_json: bool
) -> bool:
    """Look at everything, print what was found; return whether a run could go well."""
    checks = _checks(config, overrides, templates)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    return all(check.verdict != "failed" for check in checks)


def _checks(
    config: str | None, overrides: Sequence[str], templates: Sequence[str]
) -> "list[Check]":
    from dfshield.distributed.cluster.doctor import examine_cluster, examine_ray
    from dfshield.runs.doctor.machine import (
        check,
        examine_machine,
        examine_run,
        examine_template,
        existing_folder,
    )
    from dfshield.runs.doctor.teacher import examine_teacher

    found = [c for template in templates for c in examine_template(Path(template))]
    found += examine_machine()
    folder, address = None, "auto" if os.environ.get("RAY_ADDRESS") else "local"
    if config is not None:
        try:
            settings = load_settings(config, overrides)
            folder, address = existing_folder(settings), chosen_address(settings.cluster)
        except DfshieldError as error:
            return [*found, check("configuration", config, "", problem=str(error))]
        found += [check("configuration", config, "valid"), *examine_run(settings, folder)]
        with _no_bytecode():
            found += examine_teacher(settings)
    if address == "none":
        return found
    found += examine_ray()
    if address != "local":
        found += examine_cluster(address, folder)
    return found


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave no compiled files beside a factory's module, nor anything else, for the block."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _print(checks: "Sequence[Check]") -> None:
    where, found = (Column(name, overflow="fold") for name in ("Where", "Found"))
    table = Table("Check", where, "Verdict", found)
    for check in checks:
        verdict = f"[{_STYLES[check.verdict]}]{check.verdict}[/]"
        table.add_row(check.name, escape(check.where), verdict, escape(check.told))
    console = Console()
    console.print(table)
    tally = Counter(check.verdict for check in checks)
    console.print(", ".join(f"{number} {verdict}" for verdict, number in tally.items()))
