"""Tables and figures of the paper, run as sweeps."""

from dfshield.runs.reproduction.cells import Reproduction, reproduction
from dfshield.runs.reproduction.costs import Cost, Costs
from dfshield.runs.reproduction.files import WantedFile, missing_files, wanted_files
from dfshield.runs.reproduction.plan import PlannedRun, Planner, total
from dfshield.runs.reproduction.reproduced import reproduce

__all__ = [
    "Cost",
    "Costs",
    "PlannedRun",
    "Planner",
    "Reproduction",
    "WantedFile",
    "missing_files",
    "reproduce",
    "reproduction",
    "total",
    "wanted_files",
]
