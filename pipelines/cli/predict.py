"""``visionloop predict``: what a registered model finds on a handful of images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionloop.core import texts
from visionloop.core.errors import InvalidDataset
from visionloop.core.logs import notice
from visionloop.pipelines.cli.dataset import dataset_store
from visionloop.pipelines.cli.options import TILE
from visionloop.pipelines.cli.output import Output, aligned, show
from visionloop.pipelines.console import plain

if TYPE_CHECKING:
    from visionloop.components.predict.asked import Asked
    from visionloop.components.predict.images import Picture, Tell
    from visionloop.registry import Registry

#: The columns of the table for a person.
HEADING = ("IMAGE", "CLASS", "CONFIDENCE", "BOX")


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION or NAME@ALIAS.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES…", help="Files, folders, patterns such as 'photos/*.jpg', s3:// prefixes."),
    ],
    confidence: Annotated[
        float | None,
        typer.Option(help="The least confidence of an object, from 0 to 1 (default: the model's operating point)."),
    ] = None,
    tile: Annotated[str | None, typer.Option(metavar="SIZE", help=TILE)] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder for pictures with the predictions drawn on them."),
    ] = None,
    output: Output = None,
) -> None:
    """Prints what a model finds on images. One that can't be read is told, the rest goes on, and the exit code is 65.

    Example: visionloop predict bottles@champion photos --save drawn
    """
    from visionloop.components.predict.asked import asked_of
    from visionloop.components.predict.images import named
    from visionloop.pipelines.models.opened import opened
    from visionloop.training.tiled import parse_tile

    side = parse_tile(tile)
    problems: list[str] = []
    console = plain(stderr=True)

    def tell(sentence: str) -> None:
        problems.append(sentence)
        console.print(texts.sentence(sentence))

    with ExitStack() as stack:
        registry = stack.enter_context(opened(model, command="visionloop predict"))
        stack.enter_context(dataset_store(*images))
        found = _Found(registry, model)
        asked = asked_of(found.description, confidence, side)
        pictures = named(images, tell)
        entries = found.predict(pictures, asked, save, tell) if pictures else []
    show({"predictions": entries}, _table(entries), output)
    if problems:
        raise InvalidDataset(
            f"{len(problems):,} of what was named could not be predicted on, as told above; correct it or leave it out."
        )


class _Found:
    """A version, described before anything of it is loaded."""

    def __init__(self, registry: Registry, model: str) -> None:
        """Raises as ``resolve.named`` and ``resolve.describe``."""
        from visionloop.registry import resolve

        self.version = resolve.named(model, registry)
        self._uri, self.description = resolve.describe(self.version, registry)

    def predict(self, pictures: Sequence[Picture], asked: Asked, save: Path | None, tell: Tell) -> list[dict[str, Any]]:
        """Loads the model, predicts on the images, and writes pictures of them if a folder is named."""
        from visionloop.components.predict.pictures import Pictures
        from visionloop.components.predict.predicting import predict
        from visionloop.core.stdout import stdout_to_stderr
        from visionloop.registry.loaded import loaded

        drawn = Pictures(save, len(self.description.classes)) if save is not None else None
        notice(f"{self.version.label} predicts on {len(pictures):,} images.")
        entries = []
        console = plain(stderr=True)
        with (
            stdout_to_stderr(),
            loaded(self.version, self._uri, self.description) as model,
            console.status("") as status,
        ):
            found = predict(model.predictor, pictures, asked, lambda _, sentence: tell(sentence))
            for number, predicted in enumerate(found, 1):
                status.update(texts.sentence(f"{number:,} of {len(pictures):,}: {predicted.image}"))
                entries.append(predicted.entry())
                if drawn is not None:
                    drawn.add(predicted)
        return entries


def _table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """What a person reads: a row a prediction, and one for an image without any."""
    rows = []
    for entry in entries:
        image = texts.sentence(entry["image"])
        rows += [
            (image, texts.sentence(found["class"]), f"{found['confidence']:.2f}", _box(found.get("box")))
            for found in entry["predictions"]
        ] or [(image, "-", "", "")]
    return aligned(HEADING, rows) if rows else ["No image."]


def _box(box: Sequence[float] | None) -> str:
    return "" if box is None else ", ".join(f"{side:.0f}" for side in box)
