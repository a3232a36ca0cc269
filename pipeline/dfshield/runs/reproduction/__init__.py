"""Tables of the paper, run as sweeps."""

from dfshield.runs.reproduction.cells import Reproduction, missing_files, planned, reproduction
from dfshield.runs.reproduction.results import met_further, reproduced_table

__all__ = [
    "Reproduction",
    "met_further",
    "missing_files",
    "planned",
    "reproduced_table",
    "reproduction",
]
