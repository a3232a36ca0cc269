"""The tables of DataFreeShield (Lee et al., ICML 2024) as data: every number as it is printed."""

from dfshield.paper.loading import TABLE_IDS, paper_table, read_table
from dfshield.paper.table import Cell, Column, Footnote, Key, Metric, PaperTable

__all__ = [
    "TABLE_IDS",
    "Cell",
    "Column",
    "Footnote",
    "Key",
    "Metric",
    "PaperTable",
    "paper_table",
    "read_table",
]
