"""How much less work a run's preset makes than the paper's settings do."""

from dfshield.config import Config, SynthesisConfig, TrainingConfig
from dfshield.config.presets import preset
from dfshield.runs.inputs.synthesizer import synthesizer_of
from dfshield.runs.work.student_trainer import training_passes


def times_fewer(config: Config, stage: str) -> float | None:
    """Return how many times fewer passes a stage takes than with the paper's preset.

    Args:
        config: of the run.
        stage: ``synthesize`` or ``train``, of as many images in both.

    Returns:
        None without a preset, and for a baseline, which works otherwise.
    """
    if config.preset is None or config.method is not None:
        return None
    family = config.preset.partition("/")[2]
    paper = preset(f"paper/{family}", teacher_source=config.teacher.source)
    if stage == "synthesize":
        images = config.synthesis.num_images
        synthesis = SynthesisConfig.model_validate(paper["synthesis"])
        by_paper, own = (synthesizer_of(s).work(images) for s in (synthesis, config.synthesis))
    else:
        training = TrainingConfig.model_validate(paper["training"])
        by_paper, own = (training_passes(t) * t.epochs for t in (training, config.training))
    return by_paper / own
