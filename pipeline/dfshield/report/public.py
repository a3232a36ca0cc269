"""What other packages use of `dfshield.report`."""

from dfshield.report.audit import curves_figure, landscape_figure, render_audit
from dfshield.report.figures import accuracy_bars, prediction_histograms, training_curves
from dfshield.report.grid import grid_rows, image_grid
from dfshield.report.model_card import render_model_card
from dfshield.report.outcome import SeedOutcome
from dfshield.report.page import ReportData, Section, render_page
from dfshield.report.scores import ADVICE, EvaluationView, format_eps
from dfshield.report.views import BaselineView, ReferenceView, SynthesisView

__all__ = [
    "ADVICE",
    "BaselineView",
    "EvaluationView",
    "ReferenceView",
    "ReportData",
    "Section",
    "SeedOutcome",
    "SynthesisView",
    "accuracy_bars",
    "curves_figure",
    "format_eps",
    "grid_rows",
    "image_grid",
    "landscape_figure",
    "prediction_histograms",
    "render_audit",
    "render_model_card",
    "render_page",
    "training_curves",
]
