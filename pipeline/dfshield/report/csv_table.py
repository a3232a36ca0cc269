"""Rows as CSV."""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any


def csv_bytes(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bytes:
    """Return rows as CSV in UTF-8, with a line of the columns' names; None is an empty field."""
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
