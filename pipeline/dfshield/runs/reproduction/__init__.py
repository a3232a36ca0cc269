"""Tables and figures of the paper, run as sweeps."""

from dfshield.runs.reproduction.cells import Reproduction, missing_files, planned, reproduction
from dfshield.runs.reproduction.reproduced import reproduce

__all__ = ["Reproduction", "missing_files", "planned", "reproduce", "reproduction"]
