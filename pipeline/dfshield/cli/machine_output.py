"""``--json``: standard output holds one JSON document, whoever else prints."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import UnsupportedOperation
from typing import TextIO

import typer

_STDOUT, _STDERR = 1, 2
_documents: list[TextIO] = []
"""Where the document goes while ``--json`` is in force; else empty."""


KEPT = ExitStack()
"""What the option has begun; `main` ends it."""


def keep_stdout(wanted: bool) -> bool:
    """Callback of the option: from here on, what others print goes to standard error.

    Factories print, and so do libraries, also from C and from processes that they start.
    """
    if wanted:
        KEPT.enter_context(_others_to_stderr())
    return wanted


def print_json(value: object) -> None:
    """Print the document."""
    typer.echo(json.dumps(value), file=_documents[-1] if _documents else None)


@contextmanager
def _others_to_stderr() -> Iterator[None]:
    try:
        own = sys.stdout.fileno() == _STDOUT
    except UnsupportedOperation:
        own = False  # somebody calls the command within Python
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    _documents.append(os.fdopen(os.dup(kept), "w", encoding="utf-8") if own else sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        document = _documents.pop()
        if own:  # this process is about to end, and what it prints until then is no JSON either
            document.close()
        else:
            os.dup2(kept, _STDOUT)
        os.close(kept)
