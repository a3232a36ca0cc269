"""The gradient-masking audit: a checklist with a verdict and its evidence per line."""

from dfshield.audit.audit import NUM_CHECKS, audit
from dfshield.audit.checks import AuditReport, Check, Landscape, Verdict
from dfshield.audit.comparison import Comparison, compare
from dfshield.audit.defence_checks import NUM_DEFENCE_CHECKS
from dfshield.audit.landscape import roughness

__all__ = [
    "NUM_CHECKS",
    "NUM_DEFENCE_CHECKS",
    "AuditReport",
    "Check",
    "Comparison",
    "Landscape",
    "Verdict",
    "audit",
    "compare",
    "roughness",
]
