"""All hold-out measures. A new one is one new file and one line here."""

from dfshield.families import Family
from dfshield.training.measures.agreement_ce import AgreementCE
from dfshield.training.measures.agreement_ce_mixtures import AgreementCEMixtures
from dfshield.training.measures.agreement_clean import AgreementClean
from dfshield.training.measures.agreement_mixtures import AgreementMixtures
from dfshield.training.measures.agreement_pgd import AgreementPGD
from dfshield.training.measures.base import HoldoutMeasure

MEASURES: Family[HoldoutMeasure] = Family(
    "hold-out measure",
    (AgreementClean, AgreementPGD, AgreementCE, AgreementMixtures, AgreementCEMixtures),
)
