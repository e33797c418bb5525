"""Whether a prediction can be made as it is asked for: the model in the registry, and what it can't do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionloop.components.predict import written
from visionloop.components.predict.asked import Asked, asked_of, parse_confidence
from visionloop.core.errors import InvalidConfig
from visionloop.core.workspace import relation_of
from visionloop.registry import Registry, resolve
from visionloop.registry.package import Description
from visionloop.registry.versions import Version
from visionloop.training.tiled import parse_tile


@dataclass(frozen=True)
class Found:
    """A model that exists already, and what is asked of it.

    Attributes:
        version: The version.
        uri: Where its files lie.
        description: What they say of it.
        asked: What is asked for.
        formats: What is written beside the tables.
    """

    version: Version
    uri: str
    description: Description
    asked: Asked
    formats: Sequence[str]


def find(
    model: str, confidence: str | None, write: str | None, tile: str | None, environment: Mapping[str, str]
) -> Found:
    """Finds a model.

    Args:
        model: ``NAME/VERSION`` or ``NAME@ALIAS``.
        confidence: The least confidence of an object; None takes the model's operating point.
        write: What is written beside the tables.
        tile: The side of the tiles that large images are looked at in as well; None asks for none.
        environment: The process's variables.

    Raises:
        InvalidConfig: If there is no such model, or it can't do what is asked.
        InvalidReceipt: If its files are gone.
    """
    least, formats, side = parse_confidence(confidence), written.parse_write(write), parse_tile(tile)
    registry = Registry(environment, "predict")
    version = resolve.named(model, registry)
    uri, description = resolve.describe(version, registry)
    written.check_write(formats, description.task)
    return Found(version, uri, description, asked_of(description, least, side), formats)


def check_apart(workspace: str, images: str) -> None:
    """Refuses images among which the results would lie. Raises InvalidConfig."""
    if relation := relation_of(workspace, "results", images, "dataset"):
        raise InvalidConfig(
            f"--workspace {workspace} is {relation} --images {images}: what is written would count as an image; give a workspace beside it."
        )
