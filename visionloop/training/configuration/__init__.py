"""The training configuration: a user's arguments, variables and files, resolved to typed values with sources.

Pure functions: no store, no engine, no training library. The order is that of docs/contract.md, "Configuration".
"""

from visionloop.training.configuration.arguments import merge_settings, parse_settings
from visionloop.training.configuration.resolve import (
    DEFAULT,
    Resolved,
    check_model_task,
    interpolation,
    named_model,
    named_trainer,
    resolve,
    split_strategy,
)
from visionloop.training.configuration.settings import BASIC, Description, describe, settings_of
from visionloop.training.configuration.sources import CUSTOM_PROMPTS, IGNORED_FIELDS, ignored_fields
from visionloop.training.configuration.values import canonical_value

__all__ = [
    "BASIC",
    "CUSTOM_PROMPTS",
    "DEFAULT",
    "IGNORED_FIELDS",
    "Description",
    "Resolved",
    "canonical_value",
    "check_model_task",
    "describe",
    "ignored_fields",
    "interpolation",
    "merge_settings",
    "named_model",
    "named_trainer",
    "parse_settings",
    "resolve",
    "settings_of",
    "split_strategy",
]
