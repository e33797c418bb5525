"""``--classes`` as it is given: a path, a URI, or the mapping itself."""

from __future__ import annotations

from visionloop.data.annotations.class_mapping import ClassMapping, parse_classes
from visionloop.training.configuration.option_file import option_text

OPTION = "--classes"


def read_classes(classes: str) -> ClassMapping:
    """Reads a class mapping.

    Args:
        classes: A path, a URI, or JSON or YAML itself (an engine's form has no files).

    Raises:
        InvalidConfig: If it can't be read, or is not a mapping.
    """
    where, text = option_text(OPTION, classes)
    return parse_classes(text, where)
