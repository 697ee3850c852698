"""Experiment configs: fields with their defaults and units, data sources, and checks before any work."""

from diffc_jax.config.base import (
    FORMER_NAMES,
    base_config,
    check_config_argument,
    refine_steps,
    shrink_to_smoke,
)
from diffc_jax.config.sources import set_training_sources, source_config, training_source
from diffc_jax.config.validation import validate

__all__ = [
    "FORMER_NAMES",
    "base_config",
    "check_config_argument",
    "refine_steps",
    "set_training_sources",
    "shrink_to_smoke",
    "source_config",
    "training_source",
    "validate",
]
