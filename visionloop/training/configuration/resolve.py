"""Resolves a configuration: merges the levels, lets the trainer map values, converts them to their types and checks them."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from visionloop.core.catalog import MOST_NAMES
from visionloop.core.errors import InvalidConfig
from visionloop.data.reduced import INTERPOLATIONS
from visionloop.training.catalog import check_protocol, first_installed
from visionloop.training.configuration import sources as origin
from visionloop.training.configuration.settings import (
    ALIASES,
    BASIC,
    IMGSZ_MULTIPLE,
    REQUIRED,
    settings_of,
)
from visionloop.training.configuration.values import canonical_value, is_empty, shown
from visionloop.training.devices import check_devices, device_count
from visionloop.training.measurement import metric_range
from visionloop.training.trainers import Advises, Remarks, Setting, Trainer, Value
from visionloop.training.weights import reference_kind

#: From which similarity (0 to 1) on a name counts as near to one that a person may have meant.
NEAR = 0.6

#: The source of a default.
DEFAULT = "default"


@dataclass(frozen=True)
class Resolved:
    """A configuration: the typed value and the source of every setting of the trainer.

    ``sources`` are ``argument``, ``argument advanced_config`` (in a pod of an engine ``form``, ``form advanced_config``), a variable's name (``EPOCHS``, ``CONFIG_EPOCHS``,
    ``ADVANCED_CONFIG``), ``CONFIG`` or one of its objects (``CONFIG.advanced_config``), ``CONFIG_PATH basic`` or
    ``advanced``, ``default``, or, for a value that follows from another, that value's source and name.
    ``notices`` are sentences about settings that do nothing beside others.
    """

    values: dict[str, Value]
    sources: dict[str, str]
    trainer: str
    settings: Mapping[str, Setting] = field(repr=False)
    notices: tuple[str, ...] = ()

    def key_values(self) -> dict[str, Value]:
        """The values that decide a result: without ``device``, and without those whose default is marked as outside the key.

        Of the devices only their number is a part, as ``devices``, and only where it is above one.
        """
        values = {name: value for name, value in self.values.items() if self._in_key(name, value)}
        devices = device_count(self.values.get("device"))
        return values | ({"devices": devices} if devices > 1 else {})

    def source(self, name: str) -> str:
        """The source of one of ``key_values``."""
        return self.sources.get("device" if name == "devices" else name, DEFAULT)

    def _in_key(self, name: str, value: Value) -> bool:
        setting = self.settings[name]
        return setting.affects_result and (setting.default_in_key or value != setting.default)


def resolve(
    arguments: Mapping[str, object],
    trainers: Mapping[str, Trainer],
    environment: Mapping[str, str],
    task: str,
    read_file: Callable[[str], str] = origin.read_text,
) -> Resolved:
    """Resolves the training configuration.

    The order is: explicit argument, single variable, ``CONFIG``, ``CONFIG_*`` and ``ADVANCED_CONFIG``, ``CONFIG_PATH``,
    default (docs/contract.md, "Configuration").

    Args:
        arguments: The explicit values by setting, and ``advanced_config`` (an object or its JSON). Texts are converted to
            the setting's type. An engine's adapter leaves out the fields that were left empty in its form.
        trainers: The installed trainers by name.
        environment: The process's variables.
        task: The dataset's task.
        read_file: Reads the file that ``CONFIG_PATH`` names.

    Raises:
        InvalidConfig: If a value is missing, unknown, given twice in one level, of another type or out of range.
    """
    merged, sources = _merge(origin.levels(arguments, environment, read_file))
    trainer_name = _trainer_name(merged, sources, trainers, task)
    trainer = check_protocol(trainers[trainer_name], trainer_name)
    settings = settings_of(trainer, task)
    _refuse_foreign(merged, sources, settings, trainer)
    _refuse_empty(merged, sources, settings)
    mapped, sources = _map(merged, sources, settings, trainer, task)
    _refuse_unknown(mapped, sources, settings)
    values: dict[str, Value] = {name: setting.default for name, setting in settings.items()}
    for name, value in mapped.items():
        values[name] = canonical_value(name, value, settings[name], origin.in_words(sources[name]))
    sources = {name: sources.get(name, DEFAULT) for name in values}
    values["trainer"] = trainer_name
    _check_imgsz(values, sources)
    _check_device(values, sources, trainer)
    _check_resize(values, sources, trainer, task)
    _check_checkpoints(values, sources, trainer)
    _settle_starting_weights(values, sources, trainer)
    _settle_metric_mode(values, sources)
    _check_stop_metric(values, sources)
    values["patience"] = values["patience"] or 0  # 0 is the only spelling of off
    notices = _idle_patience(values, sources)
    if isinstance(trainer, Remarks):
        notices += trainer.remarks(values)
    return Resolved(values, sources, trainer_name, settings, tuple(notices))


def split_strategy(environment: Mapping[str, str]) -> dict[str, object] | None:
    """The run's split rule in ``CONFIG.split_strategy`` (docs/contract.md, "Split"), or None without one.

    Raises:
        InvalidConfig: If CONFIG or the split strategy is not a JSON object.
    """
    rule = origin.config_object(environment).get("split_strategy")
    if rule is None:
        return None
    if not isinstance(rule, dict):
        raise InvalidConfig(
            f'split_strategy in CONFIG is {shown(rule)}: give an object such as {{"train": 0.8, "val": 0.1, "test": 0.1}}.'
        )
    return rule


def interpolation(trainer: Trainer, task: str) -> str | None:
    """The interpolation by which a trainer's loader shrinks the images of a task; None where it names none that is known here."""
    name = getattr(trainer, "interpolation", {}).get(task)
    return name if name in INTERPOLATIONS else None


def check_model_task(model: str, task: str, trainer: Trainer) -> None:
    """Refuses a model whose name shows that it is for another task than the dataset's.

    Raises:
        InvalidConfig: If it is for another task.
    """
    model_task = trainer.model_task(model)
    if model_task is not None and model_task != task:
        raise InvalidConfig(
            f"model {shown(model)} is for {model_task}, but the dataset's task is {task}: "
            "choose a model for that task, or another task with --task."
        )


def _merge(levels: list[origin.Level]) -> tuple[dict[str, object], dict[str, str]]:
    """The strongest level's value of each field, and its source."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for level in reversed(levels):
        values.update(level.values)
        sources.update(level.sources)
    return values, sources


def named_trainer(
    arguments: Mapping[str, object],
    environment: Mapping[str, str],
    read_file: Callable[[str], str] = origin.read_text,
) -> tuple[str, str] | None:
    """The name of the trainer that arguments or variables give, and its source in words; None where they name none.

    Raises:
        InvalidConfig: As ``resolve``, of what stands around it.
    """
    merged, sources = _merge(origin.levels(arguments, environment, read_file))
    if "trainer" not in merged:
        return None
    return str(merged["trainer"]).strip(), origin.in_words(sources["trainer"])


def named_model(
    arguments: Mapping[str, object],
    environment: Mapping[str, str],
    read_file: Callable[[str], str] = origin.read_text,
) -> str:
    """The model that arguments or variables name; empty where they name none. Raises as ``named_trainer``."""
    merged, _ = _merge(origin.levels(arguments, environment, read_file))
    return str(merged.get("model") or "").strip()


def _trainer_name(
    values: Mapping[str, object], sources: Mapping[str, str], trainers: Mapping[str, Trainer], task: str
) -> str:
    if "trainer" not in values:
        return first_installed(trainers, task)
    if is_empty(values["trainer"]):
        _refuse_empty({"trainer": None}, sources, BASIC)
    value = values["trainer"]
    trainer_name = next(
        (name for name in trainers if isinstance(value, str) and name.lower() == value.strip().lower()), None
    )
    if trainer_name is None:
        raise InvalidConfig(
            f"trainer in {origin.in_words(sources['trainer'])} is {shown(value)}, which is not installed: "
            f"give one of {', '.join(sorted(trainers)[:MOST_NAMES]) or 'none'}."
        )
    return trainer_name


def _refuse_empty(values: Mapping[str, object], sources: Mapping[str, str], settings: Mapping[str, Setting]) -> None:
    empty = [name for name, value in values.items() if is_empty(value) and not _may_be_empty(settings.get(name))]
    if not empty:
        return
    basic = [name for name in REQUIRED if name in empty]
    fields = ", ".join(f"{shown(name)} in {origin.in_words(sources[name])}" for name in basic or empty)
    start = f"Missing required basic config: {basic}, as " if basic else ""
    verb = "are" if len(basic or empty) > 1 else "is"
    raise InvalidConfig(f"{start}{fields} {verb} empty: give a value, or leave the field out for its default.")


def _may_be_empty(setting: Setting | None) -> bool:
    return setting is not None and setting.optional


def _map(
    values: dict[str, object], sources: dict[str, str], settings: Mapping[str, Setting], trainer: Trainer, task: str
) -> tuple[dict[str, object], dict[str, str]]:
    """Lets the trainer map values of older configurations, and keeps track of the mapped values' sources."""
    plain: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict | list | tuple):
            kind = "an object" if isinstance(value, dict) else "a list"
            raise InvalidConfig(f"{shown(name)} in {origin.in_words(sources[name])} is {kind}: give one value.")
        plain[name] = value
        if name in settings:
            # A value that can't be converted stays as it is: the trainer may map it ("multi_scale": false), or it is refused later.
            with contextlib.suppress(InvalidConfig):
                plain[name] = canonical_value(name, value, settings[name], origin.in_words(sources[name]))
        elif isinstance(value, str):
            plain[name] = _scalar(value)
    mapped: dict[str, object] = trainer.normalise(dict(plain), task)
    followed = {}
    for name, value in mapped.items():
        if name in plain and _same(value, plain[name]):
            followed[name] = sources[name]
        elif name in plain:
            followed[name] = f"{sources[name]}, mapped by {trainer.name}"
        else:
            causes = _causes(name, value, plain, trainer, task)
            followed[name] = ", ".join(f"{sources[cause]}, mapped from {cause}" for cause in causes) or (
                f"mapped by {trainer.name}"
            )
    return mapped, followed


def _causes(name: str, value: object, plain: dict[str, object], trainer: Trainer, task: str) -> list[str]:
    """The fields that cause a mapping: without any one of them, the trainer would not set ``name`` to ``value``."""
    causes = []
    for left_out in plain:
        with contextlib.suppress(InvalidConfig):  # the other fields alone may be contradictory
            rest = trainer.normalise({other: plain[other] for other in plain if other != left_out}, task)
            if name not in rest or not _same(rest[name], value):
                causes.append(left_out)
    return causes


def _same(first: object, second: object) -> bool:
    """Whether two values are equal and of the same type: 1.0 == True, but True may have been mapped to 1.0."""
    return type(first) is type(second) and first == second


def _scalar(text: str) -> object:
    """The number or truth value that a text spells, else the text: ``--set nms=0.7`` means the same as 0.7 in JSON."""
    for kind in (int, float):
        with contextlib.suppress(InvalidConfig):
            return canonical_value("", text, Setting(kind, None, ""), "")
    return {"true": True, "false": False}.get(text.strip().lower(), text)


def _refuse_foreign(
    values: Mapping[str, object], sources: Mapping[str, str], settings: Mapping[str, Setting], trainer: Trainer
) -> None:
    """Refuses a word or a value of the library's own that has no meaning here, with what the trainer says to do instead."""
    if not isinstance(trainer, Advises):
        return
    for name, value in values.items():
        if advice := trainer.advice(name, value):
            what = f"is {shown(value)}" if name in settings else "is not a setting"
            raise InvalidConfig(f"{shown(name)} in {origin.in_words(sources[name])} {what}: {advice}.")


def _refuse_unknown(values: Mapping[str, object], sources: Mapping[str, str], settings: Mapping[str, Setting]) -> None:
    for name in values:
        if name not in settings:
            near = _nearest(name.lower(), [*settings, *ALIASES])
            what_to_do = (
                f"the nearest {'are' if near[1:] else 'is'} {' and '.join(near)}, remove it or rename it"
                if near
                else "remove it"
            )
            raise InvalidConfig(
                f"{shown(name)} in {origin.in_words(sources[name])} is not a setting: {what_to_do} "
                "(docs/configuration.md lists all)."
            )


def _nearest(name: str, candidates: list[str]) -> list[str]:
    """The candidates that are nearest to a name, if any is near: all that are equally near, such as lr0 and lrf to lr."""
    near = difflib.get_close_matches(name, candidates, n=len(candidates), cutoff=NEAR)
    ratios = {candidate: difflib.SequenceMatcher(None, candidate, name).ratio() for candidate in near}
    return sorted(candidate for candidate in near if ratios[candidate] == max(ratios.values()))


def _check_imgsz(values: Mapping[str, Value], sources: Mapping[str, str]) -> None:
    imgsz = values["imgsz"]
    if isinstance(imgsz, int) and imgsz % IMGSZ_MULTIPLE:
        below = max(imgsz // IMGSZ_MULTIPLE * IMGSZ_MULTIPLE, IMGSZ_MULTIPLE)
        raise InvalidConfig(
            f"imgsz must be multiple of {IMGSZ_MULTIPLE}, and imgsz in {origin.in_words(sources['imgsz'])} is {imgsz}: "
            f"give {below} or {imgsz // IMGSZ_MULTIPLE * IMGSZ_MULTIPLE + IMGSZ_MULTIPLE}."
        )


def _check_device(values: Mapping[str, Value], sources: Mapping[str, str], trainer: Trainer) -> None:
    """Refuses several devices that are not all GPUs, and a trainer that trains on one alone."""
    device = values["device"]
    setting = f"device in {origin.in_words(sources['device'])}"
    check_devices(device, setting)
    if device_count(device) > 1 and not getattr(trainer, "several_devices", False):
        raise InvalidConfig(
            f"{setting} is {device}, but the trainer {trainer.name} trains on one device: give cpu, or the number of one GPU such as 0."
        )


def _check_resize(values: Mapping[str, Value], sources: Mapping[str, str], trainer: Trainer, task: str) -> None:
    """Refuses images that would be enlarged again, and a trainer that does not say how its loader shrinks them."""
    resize, imgsz = values["resize"], values["imgsz"]
    if not isinstance(resize, int) or not isinstance(imgsz, int) or not resize:
        return
    setting = f"resize in {origin.in_words(sources['resize'])} is {resize}"
    if interpolation(trainer, task) is None:
        raise InvalidConfig(
            f"{setting}, but the trainer {trainer.name} does not say how it shrinks the images of {task}: leave resize out."
        )
    if resize < imgsz:
        raise InvalidConfig(
            f"{setting}, less than imgsz {imgsz}, so that images would be enlarged again: give at least {imgsz}, or leave it out."
        )


def _check_checkpoints(values: Mapping[str, Value], sources: Mapping[str, str], trainer: Trainer) -> None:
    """Refuses checkpoints within an epoch where a training can't go on from one."""
    if not values["checkpoint_minutes"]:
        return
    setting = (
        f"checkpoint_minutes in {origin.in_words(sources['checkpoint_minutes'])} is {values['checkpoint_minutes']:g}"
    )
    remedy = "leave it out, and a checkpoint is made at the end of each epoch"
    if not getattr(trainer, "resumes_within_epoch", False):
        raise InvalidConfig(f"{setting}, but the trainer {trainer.name} can't resume inside an epoch: {remedy}.")
    if device_count(values["device"]) > 1:
        raise InvalidConfig(f"{setting}, but a training on several devices can't resume inside an epoch: {remedy}.")


def _check_stop_metric(values: Mapping[str, Value], sources: Mapping[str, str]) -> None:
    """Refuses a value that the primary metric can't have, and one that it has reached before anything is learned."""
    wanted, metric = values["stop_metric"], str(values["primary_metric"])
    if not isinstance(wanted, float):
        return
    least, most = metric_range(metric)
    reached_at_once = wanted >= most if values["primary_metric_mode"] == "min" else wanted <= least
    if least <= wanted <= most and not reached_at_once:
        return
    why = "which each epoch reaches" if reached_at_once else f"which {metric} can't be"
    words = f"a number between {least:g} and {most:g}" if math.isfinite(most) else f"a number above {least:g}"
    raise InvalidConfig(
        f"stop_metric in {origin.in_words(sources['stop_metric'])} is {wanted:g}, {why}: give {words}, or leave it out."
    )


def _idle_patience(values: Mapping[str, Value], sources: Mapping[str, str]) -> list[str]:
    """A notice where patience was asked for and can't end the training before its last epoch; it counts from the first epoch at the earliest."""
    patience, epochs = values["patience"], values["epochs"]
    if sources["patience"] == DEFAULT or not isinstance(patience, int) or not isinstance(epochs, int):
        return []
    if not 0 < epochs - 1 <= patience:
        return []
    return [f"patience is {patience} and epochs {epochs}: no training ends early by it; give less than {epochs - 1}."]


def _settle_starting_weights(values: dict[str, Value], sources: dict[str, str], trainer: Trainer) -> None:
    """``pretrained: false`` turns a bare name into its YAML name; a YAML name is never pretrained, whatever ``pretrained`` says."""
    model = str(values["model"])
    from_scratch = trainer.is_architecture(model) or reference_kind(model) == "architecture"
    if values["pretrained"] is False and not from_scratch:
        if reference_kind(model) != "name":
            raise InvalidConfig(
                f"pretrained in {origin.in_words(sources['pretrained'])} is false, but model in {origin.in_words(sources['model'])} is a file with weights: "
                "leave pretrained out, or give model as a bare or YAML name."
            )
        values["model"] = f"{model}.yaml"
        sources["model"] = f"{sources['model']}, from scratch by pretrained in {sources['pretrained']}"
    elif values["pretrained"] is True and from_scratch:
        values["pretrained"] = False
        sources["pretrained"] = f"{sources['model']}, by model"


def _settle_metric_mode(values: dict[str, Value], sources: Mapping[str, str]) -> None:
    """Sets the mode to min for a loss, unless the mode was set."""
    if sources["primary_metric_mode"] == DEFAULT and str(values["primary_metric"]).endswith("loss"):
        values["primary_metric_mode"] = "min"
