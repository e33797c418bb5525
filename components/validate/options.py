"""What validate's options say: the checks' severities and thresholds, and the size that images are trained at."""

from __future__ import annotations

from visionloop.core.errors import InvalidConfig
from visionloop.data.annotations.codes import DEFAULTS, Checks, parse_checks
from visionloop.data.annotations.quality import IMGSZ
from visionloop.training.configuration.arguments import merge_settings
from visionloop.training.configuration.option_file import read_option

_EXAMPLE = '{"same_bytes": "warning"}'


def resolve_checks(checks: str | None) -> Checks:
    """What ``--checks`` says.

    Args:
        checks: A path, a URI, or JSON or YAML itself (an engine's form has no files); None for the defaults.

    Raises:
        InvalidConfig: If it can't be read or is wrong; the sentence names the code.
    """
    if not checks:
        return DEFAULTS
    where, value = read_option("--checks", checks, _EXAMPLE)
    return DEFAULTS if value is None else parse_checks(value, where)


def training_size(settings: str | None) -> int:
    """The size in pixels to which the training scales images: the settings' ``imgsz``, else the usual one.

    Args:
        settings: The explicit settings as a JSON object.

    Raises:
        InvalidConfig: If it is not a positive whole number.
    """
    value = merge_settings((), settings).get("imgsz")
    if value in (None, ""):
        return IMGSZ
    try:
        size = float(str(value))  # a form of Kubeflow Pipelines gives 640.0
    except ValueError:
        size = 0.0
    if size <= 0 or not size.is_integer():
        raise InvalidConfig(f"imgsz is {value!s:.80}; give a whole number of pixels.")
    return int(size)
