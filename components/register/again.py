"""The one command that makes a model again, from what its receipts say: with nothing changed since, it computes nothing."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from visionloop.components.evaluate.gate import read_gate
from visionloop.components.train.stage import STOPPED
from visionloop.components.validate.stage import Arguments as Checked
from visionloop.core import secrets
from visionloop.core.errors import InvalidConfig
from visionloop.core.receipts import Parameter, Result

#: Parameters of a training that are no settings.
_NO_SETTINGS = ("trainer_version", "devices", STOPPED)

#: What stands in a command for an empty value.
_EMPTY = "none"


@dataclass(frozen=True)
class Again:
    """How a model is made again.

    Attributes:
        command: The command line, as a shell takes it.
        remarks: Sentences about what it can't promise.
    """

    command: str
    remarks: tuple[str, ...] = ()


def again(
    chain: Mapping[str, Result],
    workspace: str,
    snapshot: str,
    model_name: str,
    registration: Mapping[str, Parameter],
    arguments: Mapping[str, Any],
) -> Again:
    """The command for a model.

    Args:
        chain: The receipts by stage: evaluate, train and validate.
        workspace: URI of the workspace.
        snapshot: The snapshot's id.
        model_name: The name as it was given.
        registration: The parameters of register.
        arguments: The arguments of the run that registers it: what is exported, and where the gate's list of images lies, of which
            receipts have the digest alone.
    """
    evaluation, training = chain["evaluate"].receipt.parameters, chain["train"].receipt.parameters
    words = ["--snapshot", snapshot, "--workspace", workspace, "--model-name", model_name]
    words += _checks(chain["validate"].receipt.parameters)
    for pair in _settings(training):
        words += ["--set", pair]
    gate, remarks = _gate(evaluation["gate"], arguments.get("gate"))
    if gate:
        words += ["--gate", _json(gate)]
    if "slices" in evaluation:
        *fields, _ = evaluation["slices"].value
        words += ["--slices", ",".join(fields)]
    if "costs" in evaluation:
        words += ["--costs", _json(evaluation["costs"].value)]
    for name in ("storage", "approve"):
        if name in registration and registration[name].value is not None:
            words += [f"--{name}", str(registration[name].value)]
    if exported := arguments.get("export"):
        words += ["--export", str(exported)]
    words = [secrets.redact_urls(word) for word in words]
    return Again(shlex.join(["visionloop", "run", "train", *words]), (*_of_training(training), *remarks))


def _checks(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """The options of validate that are not its defaults."""
    for option, name, default in (("validate-mode", "mode", Checked.mode), ("on-error", "on_error", Checked.on_error)):
        if parameters[name].value != default:
            yield from (f"--{option}", str(parameters[name].value))
    if "checks" in parameters:
        yield from ("--checks", _json(parameters["checks"].value))


def _settings(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """KEY=VALUE of each setting that is not a default: another machine's variables may differ, and the trainers that it has."""
    for name, parameter in parameters.items():
        if name == "model":
            yield f"{name}={_weights(parameter)}"
        elif name == "trainer" or (name not in _NO_SETTINGS and parameter.source != "default"):
            yield f"{name}={_text(parameter.value)}"
    if "devices" in parameters:
        yield f"device={','.join(map(str, range(int(parameters['devices'].value))))}"


def _text(value: Any) -> str:
    if value is None:
        return _EMPTY
    return str(value).lower() if isinstance(value, bool) else str(value)


def _weights(parameter: Parameter) -> str:
    """The setting ``model`` as it was given: the receipt names weights by their digest, and says behind the source what was given."""
    return parameter.source.partition(": ")[2] or str(parameter.value)


def _gate(recorded: Parameter, given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The gate's fields where one was given, and what is to be said of its list of images, which the receipt knows by digest."""
    if recorded.source == "default":
        return {}, ()
    fields = {name: value for name, value in recorded.value.items() if value is not None}
    digest = fields.pop("must_pass", None)
    if digest is None:
        return fields, ()
    with contextlib.suppress(InvalidConfig):
        if given and (listed := read_gate(given if isinstance(given, str) else _json(given)).must_pass):
            return {**fields, "must_pass": listed}, ()
    return fields, (f"The gate also has must_pass, a list of images with the digest {digest}: add where it lies.",)


def _of_training(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """What makes another training of the command, sooner or later."""
    model = parameters.get("model")
    if model is not None and str(model.value).startswith("sha256:"):
        yield f"The starting weights were those with the SHA-256 {str(model.value)[7:]}: other ones in their place are another training."
    if STOPPED in parameters:
        yield f"The training was ended after epoch {parameters[STOPPED].value}; the command trains to the end."


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
