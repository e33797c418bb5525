"""The sources of a configuration: arguments, variables, CONFIG, the older variables and the file that CONFIG_PATH names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from visionloop.core.encodings import decoded
from visionloop.core.errors import InvalidConfig
from visionloop.core.policy import POD_GPUS_VARIABLE
from visionloop.training.configuration.settings import ALIASES, REQUEST_ALIASES
from visionloop.training.configuration.values import shown

#: Variables that hold one setting each, and their older names.
SINGLE_VARIABLES: Mapping[str, str] = {
    "MODEL_NAME": "model",
    "FRAMEWORK": "trainer",
    "EPOCHS": "epochs",
    "BATCH_SIZE": "batch",
    "LEARNING_RATE": "lr0",
    "IMGSZ": "imgsz",
    "DEVICE": "device",
}
OLD_VARIABLES: Mapping[str, str] = {
    "CONFIG_IMGSZ": "imgsz",
    "CONFIG_EPOCHS": "epochs",
    "CONFIG_BATCH": "batch",
    "CONFIG_LR0": "lr0",
    "CONFIG_OPTIMIZER": "optimizer",
    "CONFIG_AUGMENT": "augment",
}

#: Fields of CONFIG, and of ``basic`` in the file that CONFIG_PATH names, that are not settings and change nothing, and what says it here.
IGNORED_FIELDS: Mapping[str, str] = {
    "project": "results lie under --workspace",
    "name": "name the run by --run-name",
    "description": "describe the run by --description",
    "save_period": "the checkpoint of each epoch is kept until the training has ended",
    "dataset_id": "a dataset is named by its URI",
    "task_type": "the task is the dataset's; --task, or snapshot's variable TASK_TYPE, chooses among several",
}

#: The field that stands there for snapshot, which reads it by ``split_strategy``.
_SPLIT_STRATEGY = "split_strategy"

#: A field that would make another model of the training, which no trainer here can.
CUSTOM_PROMPTS = "custom_prompts"

#: Fields of CONFIG that are null if the user left them empty.
NULL_IS_ABSENT = frozenset(
    {"primary_metric", "primary_metric_mode", "advanced_config", "augmentation", "early_stopping"}
)


#: Sources that have a longer name in a sentence.
_IN_WORDS = {
    "argument": "--set",
    # `run` puts what has no field of its own into this object; a person wrote --set.
    "argument advanced_config": "--set",
    "form": "the run's form",
    "form advanced_config": "advanced_config of the run's form",
    "CONFIG_PATH basic": "basic of the file that CONFIG_PATH names",
    "CONFIG_PATH advanced": "advanced of the file that CONFIG_PATH names",
}


def in_words(source: str) -> str:
    """The name of a source in a sentence."""
    return _IN_WORDS.get(source, source)


@dataclass
class Level:
    """The fields of one level of the precedence: value and source by setting."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: object, source: str, written: str | None = None) -> None:
        """Adds a field, under its setting's name.

        Raises:
            InvalidConfig: If this level has it already.
        """
        if name in self.values:
            spelled = shown(name) if written in (None, name) else f"{shown(name)}, written {shown(written)},"
            first, second = in_words(self.sources[name]), in_words(source)
            where = f"twice in {first}" if first == second else f"in {first} and in {second}"
            raise InvalidConfig(f"{spelled} is given {where}: leave one of the two out.")
        self.values[name] = value
        self.sources[name] = source


def read_text(path: str) -> str:
    """The text of a local file in UTF-8, with or without a byte order mark."""
    return decoded(Path(path).read_bytes())


def levels(
    arguments: Mapping[str, object], environment: Mapping[str, str], read_file: Callable[[str], str]
) -> list[Level]:
    """The levels of the precedence, strongest first.

    Raises:
        InvalidConfig: If JSON is invalid, a field occurs twice in one level, or a value that must be an object is not one.
    """
    return [
        _arguments(arguments, "form" if POD_GPUS_VARIABLE in environment else "argument"),
        _variables(environment, SINGLE_VARIABLES),
        _config(environment),
        _old_variables(environment),
        _config_file(environment, read_file),
    ]


def parse_json(text: str, where: str) -> object:
    """Parses JSON strictly: no NaN, no repeated field.

    Raises:
        InvalidConfig: If it is not JSON, naming line and column.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result: dict[str, object] = {}
        for name, value in pairs:
            if name in result:
                raise InvalidConfig(f"{shown(name)} stands twice in one object of {where}: leave one of the two out.")
            result[name] = value
        return result

    def no_constant(constant: str) -> object:
        raise InvalidConfig(f"{where} holds {constant}, which is not JSON: give a finite number.")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise InvalidConfig(
            f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; repair it there."
        ) from None
    except RecursionError:
        raise InvalidConfig(f"{where} is nested too deeply: its settings are plain fields of one object.") from None
    except ValueError:  # a whole number of more than 4300 digits
        raise InvalidConfig(f"{where} holds a number that is too large: give one within the setting's range.") from None


def config_object(environment: Mapping[str, str]) -> dict[str, object]:
    """The object in the variable CONFIG; empty if it is not set.

    Raises:
        InvalidConfig: If it is not a JSON object.
    """
    return parse_object(environment["CONFIG"], "CONFIG") if "CONFIG" in environment else {}


def parse_object(value: object, where: str) -> dict[str, object]:
    """An object, from an object or from its JSON text.

    Args:
        value: The object or the text.
        where: The value's source, for errors.

    Raises:
        InvalidConfig: If it is not a JSON object.
    """
    if isinstance(value, str):
        value = parse_json(value, where)
    if not isinstance(value, Mapping):
        raise InvalidConfig(f"{where} is {shown(value)}: give a JSON object of settings.")
    return {str(name): item for name, item in value.items()}


def _add_all(level: Level, fields: Mapping[str, object], source: str, aliases: Mapping[str, str]) -> None:
    for written, value in fields.items():
        level.add(aliases.get(written, written), value, source, written)


def _arguments(arguments: Mapping[str, object], source: str) -> Level:
    """The explicit settings. ``source``: in a pod of an engine they are from a form, elsewhere from the command line."""
    level = Level()
    plain = {name: value for name, value in arguments.items() if name != "advanced_config"}
    _add_all(level, plain, source, ALIASES)
    if "advanced_config" in arguments:
        where = f"advanced_config in {in_words(source)}"
        nested = parse_object(arguments["advanced_config"], where)
        _add_all(level, nested, f"{source} advanced_config", ALIASES)
    return level


def _variables(environment: Mapping[str, str], names: Mapping[str, str]) -> Level:
    level = Level()
    for variable, name in names.items():
        if variable in environment:
            level.add(name, environment[variable], variable)
    return level


def _config(environment: Mapping[str, str]) -> Level:
    level = Level()
    fields = config_object(environment)
    for name in NULL_IS_ABSENT:
        if name in fields and fields[name] is None:
            del fields[name]
    nested = {
        name: fields.pop(name) for name in ("advanced_config", "augmentation", "early_stopping") if name in fields
    }
    _add_all(level, _settings_only(fields, "CONFIG"), "CONFIG", REQUEST_ALIASES)
    for name, value in nested.items():
        source = f"CONFIG.{name}"
        parsed = parse_object(value, source)
        _add_all(level, _early_stopping(parsed, source) if name == "early_stopping" else parsed, source, ALIASES)
    return level


def _early_stopping(fields: dict[str, object], source: str) -> dict[str, object]:
    """``{"enabled": bool, "patience": int}`` as the setting patience; ``enabled`` false is patience 0."""
    unknown = sorted(set(fields) - {"enabled", "patience"})
    if unknown:
        raise InvalidConfig(f"{shown(unknown[0])} in {source} is unknown: it holds enabled and patience.")
    enabled = fields.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise InvalidConfig(f"enabled in {source} is {shown(enabled)}: give true or false.")
    return fields if enabled else {"patience": 0}


def _old_variables(environment: Mapping[str, str]) -> Level:
    level = _variables(environment, OLD_VARIABLES)
    if "ADVANCED_CONFIG" in environment:
        _add_all(level, parse_object(environment["ADVANCED_CONFIG"], "ADVANCED_CONFIG"), "ADVANCED_CONFIG", ALIASES)
    return level


def _config_file(environment: Mapping[str, str], read_file: Callable[[str], str]) -> Level:
    level = Level()
    path = environment.get("CONFIG_PATH")
    if path is None:
        return level
    where = f"the file {path if path.isprintable() else ascii(path)} that CONFIG_PATH names"
    try:
        text = read_file(path)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise InvalidConfig(f"{where} can't be read ({reason}): correct CONFIG_PATH or the file.") from None
    fields = parse_object(text, where)
    unknown = sorted(set(fields) - {"basic", "advanced"})
    if unknown:
        raise InvalidConfig(f'{shown(unknown[0])} in {where} is unknown: the file holds "basic" and "advanced".')
    for name in ("basic", "advanced"):
        if name in fields:
            parsed = parse_object(fields[name], f"{name} in {where}")
            aliases = REQUEST_ALIASES if name == "basic" else ALIASES
            wanted = _settings_only(parsed, f"{name} in {where}") if name == "basic" else parsed
            _add_all(level, wanted, f"CONFIG_PATH {name}", aliases)
    return level


def ignored_fields(environment: Mapping[str, str]) -> list[str]:
    """The fields of CONFIG that are set and have no meaning here.

    Raises:
        InvalidConfig: If CONFIG is not a JSON object.
    """
    return [name for name, value in config_object(environment).items() if name in IGNORED_FIELDS and value is not None]


def _settings_only(fields: dict[str, object], source: str) -> dict[str, object]:
    if fields.get(CUSTOM_PROMPTS):
        raise InvalidConfig(
            f"{CUSTOM_PROMPTS} in {source}: no trainer takes text prompts; leave it out, and choose classes with --classes."
        )
    others = {*IGNORED_FIELDS, _SPLIT_STRATEGY, CUSTOM_PROMPTS}
    return {name: value for name, value in fields.items() if name not in others}
