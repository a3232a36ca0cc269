"""The configuration of a run: frozen models, presets, overrides."""

from dfshield.config.loading import config_from, dump_config, expand, load_config
from dfshield.config.models import (
    AttackConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    EvaluationData,
    StorageConfig,
    SynthesisConfig,
    TeacherConfig,
    TeacherTraining,
    ThreatConfig,
    TrainingConfig,
    check_group,
)
from dfshield.config.presets import PRESETS

__all__ = [
    "PRESETS",
    "AttackConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "EvaluationData",
    "StorageConfig",
    "SynthesisConfig",
    "TeacherConfig",
    "TeacherTraining",
    "ThreatConfig",
    "TrainingConfig",
    "check_group",
    "config_from",
    "dump_config",
    "expand",
    "load_config",
]
