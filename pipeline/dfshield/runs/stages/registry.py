"""The stages of the pipeline in their order. A new stage is one new file and one line here."""

from dfshield.runs.stages.evaluation import EVALUATE
from dfshield.runs.stages.reporting import REPORT
from dfshield.runs.stages.stage import Stages
from dfshield.runs.stages.synthesis import SYNTHESIZE
from dfshield.runs.stages.teacher import TEACHER
from dfshield.runs.stages.training import TRAIN

STAGES = Stages(
    (
        TEACHER,
        SYNTHESIZE,
        TRAIN,
        EVALUATE,
        REPORT,
    )
)
