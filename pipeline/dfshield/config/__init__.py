"""The configuration of a run: frozen models, presets, overrides."""

from dfshield.config.defaults import defaults_for
from dfshield.config.loading import (
    apply_override,
    config_from,
    dump_config,
    expand,
    load_config,
    parse_yaml,
    set_key,
)
from dfshield.config.models import Config, check_group, check_last_batch
from dfshield.config.old_names import first_path, path_now, renamed
from dfshield.config.presets import PRESETS
from dfshield.config.sections import (
    AuditConfig,
    ClusterConfig,
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    EvaluationData,
    StorageConfig,
    SynthesisConfig,
    TeacherConfig,
    TeacherTraining,
    ThreatConfig,
    TrainingConfig,
    names_folder,
)
from dfshield.config.sweep import AxisConfig, SweepConfig
from dfshield.config.values import NAME
from dfshield.config.variants import VariantConfig

__all__ = [
    "NAME",
    "PRESETS",
    "AuditConfig",
    "AxisConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "EvaluationData",
    "StorageConfig",
    "SweepConfig",
    "SynthesisConfig",
    "TeacherConfig",
    "TeacherTraining",
    "ThreatConfig",
    "TrainingConfig",
    "VariantConfig",
    "apply_override",
    "check_group",
    "check_last_batch",
    "config_from",
    "defaults_for",
    "dump_config",
    "expand",
    "first_path",
    "load_config",
    "names_folder",
    "parse_yaml",
    "path_now",
    "renamed",
    "set_key",
]
