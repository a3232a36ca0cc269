"""The configuration of a run: frozen models, presets, overrides."""

from dfshield.config.defaults import defaults_for
from dfshield.config.evaluation import (
    AuditConfig,
    EvaluationConfig,
    EvaluationData,
    attack_options,
)
from dfshield.config.families import FAMILIES
from dfshield.config.loading import (
    apply_override,
    config_from,
    described_config,
    dump_config,
    expand,
    load_config,
    merged_trees,
    parse_yaml,
    variant_from,
)
from dfshield.config.models import Config, check_group, check_last_batch
from dfshield.config.presets import PRESETS
from dfshield.config.renamed_keys import current_key, set_key, with_current_keys
from dfshield.config.sections import (
    BY_METHOD,
    DEFAULT_SYNTHESIZER,
    ClusterConfig,
    EngineConfig,
    StorageConfig,
    SynthesisConfig,
    ThreatConfig,
)
from dfshield.config.sweep import CASES, AxisConfig, SweepConfig
from dfshield.config.teacher import DataConfig, TeacherConfig, TeacherTraining, names_folder
from dfshield.config.training import ReferenceImages, TrainingConfig
from dfshield.config.values import NAME
from dfshield.config.variants import VariantConfig

__all__ = [
    "BY_METHOD",
    "CASES",
    "DEFAULT_SYNTHESIZER",
    "FAMILIES",
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
    "ReferenceImages",
    "StorageConfig",
    "SweepConfig",
    "SynthesisConfig",
    "TeacherConfig",
    "TeacherTraining",
    "ThreatConfig",
    "TrainingConfig",
    "VariantConfig",
    "apply_override",
    "attack_options",
    "check_group",
    "check_last_batch",
    "config_from",
    "current_key",
    "defaults_for",
    "described_config",
    "dump_config",
    "expand",
    "load_config",
    "merged_trees",
    "names_folder",
    "parse_yaml",
    "set_key",
    "variant_from",
    "with_current_keys",
]
