"""Headers of Parquet's data pages, which pyarrow does not show: where the values of a page stand.

A header is a Thrift structure in the compact protocol; see ``parquet.thrift`` (``PageHeader``) and
``thrift-compact-protocol.md`` of the two projects. Only what is needed is known here.
"""

from dataclasses import dataclass

HEADER_BYTES = 256
"""Longer than any header without statistics."""

_BOOLEANS, _BYTE, _INTEGERS, _BINARY, _STRUCT = (1, 2), 3, (4, 5, 6), 8, 12
_DATA_PAGE, _PLAIN = 0, 0

Struct = dict[int, "int | Struct"]


@dataclass(frozen=True)
class PageHeader:
    """What a data page of plain, uncompressed values says of itself.

    Attributes:
        length: of the header itself, in bytes.
        num_values: how many values the page holds.
        num_bytes: how many bytes follow the header.
    """

    length: int
    num_values: int
    num_bytes: int


def read_page_header(data: bytes) -> PageHeader | None:
    """Return the header that these bytes begin with; None unless it is one of plain values."""
    try:
        fields, length = _struct(data, 0)
    except (IndexError, ValueError):
        return None
    kind, num_bytes, page = fields.get(1), fields.get(3), fields.get(5)
    if kind != _DATA_PAGE or not isinstance(num_bytes, int) or not isinstance(page, dict):
        return None
    num_values, encoding = page.get(1), page.get(2)
    if encoding != _PLAIN or not isinstance(num_values, int) or min(num_values, num_bytes) < 1:
        return None
    return PageHeader(length, num_values, num_bytes)


def _struct(data: bytes, at: int) -> tuple[Struct, int]:
    """Return the numbers and structures in a structure by field number, and where it ends."""
    fields: Struct = {}
    number = 0
    while head := data[at]:
        delta, kind = head >> 4, head & 15
        at += 1
        if delta:
            number += delta
        else:
            number, at = _signed(data, at)
        if kind in _INTEGERS:
            fields[number], at = _signed(data, at)
        elif kind == _STRUCT:
            fields[number], at = _struct(data, at)
        elif kind == _BINARY:
            size, at = _varint(data, at)
            at += size
        elif kind == _BYTE:
            at += 1
        elif kind not in _BOOLEANS:
            raise ValueError(f"a page header has no field of type {kind}")
    return fields, at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at
