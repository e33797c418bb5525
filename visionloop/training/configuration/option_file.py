"""An option whose value is a small file of fields: its path, its URI, or its text."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any, TypeVar

import msgspec
import yaml

from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidConfig, NotFound
from visionloop.core.storage import read_uri
from visionloop.core.stores import local_path, normalise_uri
from visionloop.data import yaml_texts
from visionloop.data.sentences import printable, shown

Fields = TypeVar("Fields", bound=msgspec.Struct)


def read_option_file(option: str, argument: str, form: type[Fields], example: str) -> Fields:
    """Reads the fields of an option.

    Args:
        option: The option's name, such as ``--gate``.
        argument: A path, a URI, or the JSON or YAML itself (an engine's form can't take files).
        form: The fields; all are optional.
        example: A valid text, for the errors.

    Raises:
        InvalidConfig: If it can't be read, or a field is unknown or out of its range.
    """
    where, value = read_option(option, argument, example)
    try:
        # YAML reads 1e-3 as a text: texts that spell a number are converted.
        return msgspec.convert({} if value is None else value, form, strict=False)
    except msgspec.ValidationError as error:
        fields = ", ".join(form.__struct_fields__)
        raise InvalidConfig(f"{where}: {str(error).rstrip('.')}; the fields are {fields}.") from None


def read_option(option: str, argument: str, example: str) -> tuple[str, Any]:
    """Reads an option's value, whatever it is: where it stands, for sentences, and the value. Arguments as ``read_option_file``'s.

    Raises:
        InvalidConfig: If it can't be read.
    """
    where, text = option_text(option, argument)
    try:
        # YAML reads JSON too, except for some escapes and tabs.
        value: Any = json.loads(text, object_pairs_hook=partial(_once, where))
    except (ValueError, RecursionError):
        value = _yaml(text, where, example)
    return where, value


def _once(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise InvalidConfig(printable(f"{where}: {shown(key)} is written twice; leave one of the two out."))
        value[key] = item
    return value


def _yaml(text: str, where: str, example: str) -> Any:
    try:
        yaml_texts.load(
            text
        )  # the library itself takes a key twice, and aliases that grow without end where they are shown
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an invalid date
        reason = f"{error}".splitlines()[0]
        raise InvalidConfig(
            printable(f"{where}: neither JSON nor YAML ({reason}); write the fields as in {example}.")
        ) from None


def option_text(option: str, argument: str) -> tuple[str, str]:
    """The text of an option's fields, and what names it in errors.

    Args:
        option: The option's name.
        argument: A path, a URI, or the JSON or YAML itself.

    Raises:
        InvalidConfig: If no text file can be read there.
    """
    if re.match(r"\s*(\{|\w+:(\s|$))", argument):
        return option, argument
    return f"{option} {argument}", _text(option, argument)


def _text(option: str, argument: str) -> str:
    try:
        uri = normalise_uri(argument)
    except InvalidConfig as error:
        raise InvalidConfig(f"{option}: {error.sentence}") from None
    path = local_path(uri)
    try:
        if path is not None and path.exists() and not path.is_file():  # a device or a pipe may never end
            raise FileNotFoundError(path)
        return decoded(path.read_bytes() if path else read_uri(uri, "results"))
    except (NotFound, OSError, UnicodeDecodeError):
        raise InvalidConfig(
            f"{option} {argument}: no text file can be read there; correct the path or leave {option} out."
        ) from None
