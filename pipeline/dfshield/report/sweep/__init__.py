"""What a sweep found, for people: its pictures, the setting to use, one self-contained HTML page.

Plain data go in, bytes and text come out; whoever calls it writes the files.
"""

from dfshield.report.sweep.answer import answer_of
from dfshield.report.sweep.axes import axes_of, describe
from dfshield.report.sweep.choice import (
    ProxyAgreement,
    Recommendation,
    pareto_front,
    proxy_agreement,
    recommend,
)
from dfshield.report.sweep.figures import SweepFigure, sweep_figures
from dfshield.report.sweep.marks import legend
from dfshield.report.sweep.matrix import Matrix, matrix_of
from dfshield.report.sweep.page import render_sweep_page
from dfshield.report.sweep.paper import PaperCell, paper_cells
from dfshield.report.sweep.settings import Pooled, Setting, measures_of, settings_of
from dfshield.report.sweep.trials import SweepData, SweepTrial

__all__ = [
    "Matrix",
    "PaperCell",
    "Pooled",
    "ProxyAgreement",
    "Recommendation",
    "Setting",
    "SweepData",
    "SweepFigure",
    "SweepTrial",
    "answer_of",
    "axes_of",
    "describe",
    "legend",
    "matrix_of",
    "measures_of",
    "paper_cells",
    "pareto_front",
    "proxy_agreement",
    "recommend",
    "render_sweep_page",
    "settings_of",
    "sweep_figures",
]
