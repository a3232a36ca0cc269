"""What students are compared by on synthetic images: a family behind one contract."""

from dfshield.training.measures.agreement_ce import AgreementCE
from dfshield.training.measures.agreement_ce_mixtures import AgreementCEMixtures
from dfshield.training.measures.agreement_clean import AgreementClean
from dfshield.training.measures.agreement_mixtures import AgreementMixtures
from dfshield.training.measures.agreement_pgd import AgreementPGD
from dfshield.training.measures.base import Agreements, Chunk, HoldoutMeasure
from dfshield.training.measures.due import measured_epochs
from dfshield.training.measures.registry import MEASURES

__all__ = [
    "MEASURES",
    "AgreementCE",
    "AgreementCEMixtures",
    "AgreementClean",
    "AgreementMixtures",
    "AgreementPGD",
    "Agreements",
    "Chunk",
    "HoldoutMeasure",
    "measured_epochs",
]
