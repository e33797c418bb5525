"""A registered model's files: an MLflow pyfunc model that uses its trainer through the protocol.

The files describe themselves: all that is needed to evaluate, export or fine-tune the model is in ``MLmodel`` under
``metadata.visionloop``, so neither MLflow's tags nor a receipt is needed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from PIL import Image, ImageDraw

from visionloop.core import damage, plain_yaml, receipts
from visionloop.core.errors import InvalidConfig, InvalidReceipt, NotFound
from visionloop.core.packages import not_installed
from visionloop.core.storage import Prefix, open_prefix
from visionloop.registry import archive, outputs
from visionloop.training import catalog
from visionloop.training.tracking.connection import describe, is_mlflows, prepare_import, quiet_import
from visionloop.training.trainers import Trainer

DESCRIPTION_FILE = "MLmodel"
REQUIREMENTS_FILE = "requirements.txt"
CHECKPOINT = "checkpoint"
ARCHIVE = "visionloop.zip"

#: The code that MLflow runs when the model is loaded; never imported here, because it imports mlflow.
CODE = Path(__file__).with_name("model_code.py")


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A model's description of itself: ``metadata.visionloop`` of its ``MLmodel``.

    Attributes:
        trainer: Name of the trainer that made it and loads it.
        task: ``detection`` …
        classes: Class names by index.
        keypoints: For pose the names of its keypoints in their order.
        training_digest: The training's result digest.
        checkpoint: Path of the checkpoint in the model's folder.
        checkpoint_sha256: Its SHA-256.
        config: The configuration it was trained with.
        operating_point: The least confidence of an object by class name, where a prediction is asked for without one; empty for a
            model that was registered before there were any: 0.25.
    """

    schema: int = 1
    trainer: str
    task: str
    classes: list[str]
    training_digest: str
    checkpoint: str
    checkpoint_sha256: str
    config: dict[str, bool | int | float | str | None]
    keypoints: list[str] = []
    operating_point: dict[str, float] = {}


def build(folder: Path, checkpoint: Path, trainer: Trainer, description: Description) -> None:
    """Writes the MLflow model into ``folder``, which must not exist yet.

    Args:
        folder: The target folder.
        checkpoint: A ``TrainingResult.best``.
        trainer: The trainer that loads it.
        description: The model's description of itself.

    Raises:
        InvalidConfig: If a package that MLflow needs for it is not installed, or MLflow refuses to write it.
    """
    prepare_import()
    with _written(folder), quiet_import():
        import mlflow.pyfunc

        code = checkpoint.with_name(ARCHIVE)
        where = catalog.reference(description.trainer)
        archive.write(code, where)
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(CODE),
            artifacts={CHECKPOINT: str(checkpoint), "code": str(code)},
            model_config={
                "trainer": description.trainer,
                "trainer_object": where,
                "classes": description.classes,
                "operating_point": description.operating_point,
            },
            # Set, not inferred: inferring imports the model and takes seconds.
            pip_requirements=sorted({*archive.requirements(), *trainer.requirements()}),
            signature=_signature(description.task),
            input_example=[base64.b64encode(example_image()).decode()],
            metadata={"visionloop": msgspec.to_builtins(description)},
        )
    _forget_machine(folder / DESCRIPTION_FILE)


def _signature(task: str) -> Any:
    """What MLflow's pages and servers show: parameters and outputs.

    Without inputs: with a schema of them MLflow refuses PIL images and arrays before the model sees them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Map, Object, Property

    numbers = Array(DataType.double)
    entry = [
        Property("class", DataType.string),
        Property("class_index", DataType.long),
        Property("confidence", DataType.double),
    ]
    params = []
    if task != "classification":
        entry.append(Property("box", numbers))
        # None is the operating point: MLflow puts the default in place of what is not given.
        params.append(ParamSpec(outputs.CONFIDENCE, "double", None))
    if task == "segmentation":
        mask = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
        entry += [
            Property("polygons", Array(numbers), required=False),
            Property("holes", Array(numbers), required=False),
            Property("mask", mask, required=False),
        ]
        params.append(ParamSpec(outputs.MASKS, "boolean", False))
    if task == "pose":
        entry.append(Property("keypoints", Map(numbers), required=False))
    schema = Schema([ColSpec(Array(Object(entry)))])
    return ModelSignature(outputs=schema, params=ParamSchema(params)) if params else ModelSignature(outputs=schema)


def example_image() -> bytes:
    """A drawn picture for the model's input example: nothing of the dataset may be in it."""
    image = Image.new("RGB", (64, 64), "#d0d7de")
    drawing = ImageDraw.Draw(image)
    drawing.rectangle((12, 20, 36, 44), fill="#0969da")
    drawing.ellipse((34, 10, 56, 32), fill="#d1242f")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turns what keeps MLflow from writing a model into an error of ours; a full disk is recognised where the stage is run."""
    try:
        yield
    except ImportError as error:
        raise not_installed(error, "register") from error
    except Exception as error:
        if not is_mlflows(error) or isinstance(error, OSError):
            raise
        raise InvalidConfig(
            f"{folder.name}: MLflow can't write the model ({describe(error)}); correct what it names."
        ) from error


def read(uri: str) -> Description:
    """The description of the model in the folder ``uri``.

    Raises:
        NotFound: If the folder does not hold an MLflow model.
        InvalidReceipt: If the model is not Visionloop's.
    """
    try:
        value: Any = plain_yaml.document(open_prefix(uri, "results").read(DESCRIPTION_FILE).decode())
        return msgspec.convert(value["metadata"]["visionloop"], Description)
    except (KeyError, TypeError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise InvalidReceipt(
            f"{uri}/{DESCRIPTION_FILE}: not a model that Visionloop registered; register it."
        ) from error


def fetch_checkpoint(
    uri: str, description: Description, local: Path, recorded: str | None = None, workspace: Prefix | None = None
) -> Path:
    """Downloads a model's checkpoint, checked against the digest that its version records.

    Args:
        uri: The model's folder.
        description: The model's description of itself.
        local: The file to write.
        recorded: The SHA-256 that the version records; without one that of the description counts.
        workspace: The workspace that is open now: a registration there whose checkpoint does not match is marked as damaged.

    Raises:
        InvalidReceipt: If it is gone or does not match.
    """
    expected = recorded or description.checkpoint_sha256
    try:
        sent = open_prefix(uri, "results").download(description.checkpoint, local)
        if sent.sha256 != expected:
            # Read again over a new connection: the first may have damaged it.
            sent = open_prefix(uri, "results").download(description.checkpoint, local)
    except NotFound:
        raise InvalidReceipt(
            f"{uri}/{description.checkpoint}: the checkpoint is gone; register the model again."
        ) from None
    if sent.sha256 != expected:
        local.unlink(missing_ok=True)
        if workspace is not None and _mark_damaged(uri, description.checkpoint, sent.sha256, workspace):
            remedy = "run the model's own run again: register will be computed again, and puts it there again."
        else:
            remedy = "run the model's own run again with --force register, which puts it there again."
        raise InvalidReceipt(
            f"{uri}/{description.checkpoint}: the checkpoint was altered since it was registered; {remedy}"
        )
    return local


def _mark_damaged(uri: str, checkpoint: str, digest: str, workspace: Prefix) -> bool:
    """Marks the registration that put a model's files at ``uri``. Returns False unless it is of this workspace."""
    match = re.fullmatch(re.escape(workspace.uri) + r"/register/([0-9a-f]{64})/[0-9a-f]+/([^/]+)", uri)
    result = receipts.look(workspace, "register", match[1]) if match else None
    if match is None or result is None:
        return False
    output = f"{match[2]}/{checkpoint}"
    return output in result.receipt.outputs and damage.mark(
        result.prefix, damage.Damage(output=output, attempt=result.receipt.attempt, sha256=digest)
    )


def is_complete(uri: str) -> bool:
    """Whether ``uri`` holds a model of Visionloop's with its checkpoint; False for a kind of URI that can't be read."""
    try:
        description = read(uri)
        return open_prefix(uri, "results").exists(description.checkpoint)
    except (NotFound, InvalidReceipt, InvalidConfig):
        return False


def files(folder: Path) -> list[str]:
    """The files of a model in the order in which they are uploaded: the one that makes it complete comes last."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(names, key=lambda name: name == DESCRIPTION_FILE)


def _forget_machine(file: Path) -> None:
    """Removes this machine's paths from ``MLmodel``; MLflow only uses the files' names."""
    content: dict[str, Any] = plain_yaml.document(file.read_text(encoding="utf-8"))
    flavour: Mapping[str, Any] = content["flavors"]["python_function"]
    for entry in flavour["artifacts"].values():
        entry["uri"] = entry["path"]
    content["flavors"]["python_function"]["model_code_path"] = Path(flavour["model_code_path"]).name
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
