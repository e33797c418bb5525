"""The predict stage: shard after shard, each a result of its own, by which a prediction that was interrupted goes on."""

from __future__ import annotations

import contextlib
import heapq
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.components.predict import table, written
from visionloop.components.predict.events import PredictionEvents
from visionloop.components.predict.found import Found, check_apart, find
from visionloop.components.predict.images import Picture
from visionloop.components.predict.listing import Listing, listed
from visionloop.components.predict.pictures import drawn, stem_of
from visionloop.components.predict.predicting import Predicted, predict
from visionloop.core import live, receipts
from visionloop.core.canonical import sha256
from visionloop.core.errors import InvalidDataset, VisionloopError
from visionloop.core.folders import temporary_folder
from visionloop.core.logs import notice
from visionloop.core.policy import POLICIES
from visionloop.core.receipts import InputReference, Output, Parameter, Result
from visionloop.core.running import publish
from visionloop.core.runs import WARNINGS
from visionloop.core.shards import PARAMETER
from visionloop.core.stage import Attempt, Computed, Context, Resolution, argument, key_of
from visionloop.core.stdout import stdout_to_stderr
from visionloop.core.storage import open_prefix, writing
from visionloop.core.stores import normalise_uri
from visionloop.data.dice.tasks import annotation_file
from visionloop.registry.loaded import LoadedModel, loaded

#: How many images a shard has; the last one may have fewer.
SHARD_IMAGES = 10_000

#: How many images are drawn with what was found on them.
SAMPLES = 12

#: How many images that can't be read are told one by one.
TOLD = 10

#: The outputs of a shard.
PREDICTIONS, UNREADABLE = "predictions", "unreadable"

#: What the images that can't be read are counted as.
_CODE = "unreadable"


@dataclass(frozen=True)
class Arguments:
    """The arguments of predict."""

    model: str = argument("The model: NAME/VERSION or NAME@ALIAS of the registry, with or without models:/ before it.")
    images: str = argument("Where the images lie: s3://bucket/prefix, file:///folder or a path; all below it count.")
    confidence: str | None = argument(
        "The least confidence of an object, from 0 to 1 (default: the model's operating point).", default=None
    )
    write: str | None = argument(
        "What is written beside the tables, separated by commas: coco (COCO's JSON), dice (DICE's annotations, for review).",
        default=None,
    )
    tile: str | None = argument(
        "The side of the tiles in pixels that large images are looked at in as well, overlapping (default: none).",
        default=None,
    )


@dataclass(frozen=True)
class Loaded:
    """What ``resolve`` found."""

    model: Found
    listing: Listing
    events: PredictionEvents

    @property
    def scalars(self) -> dict[str, Any]:
        """What people call the model and the images."""
        return {"model": self.model.version.label, "images_uri": self.listing.prefix.uri}


@dataclass(frozen=True)
class Shard:
    """Some of the images in the order of their keys.

    Attributes:
        number: From 0.
        first: The first image.
        last: The one behind the last.
    """

    number: int
    first: int
    last: int


@dataclass
class Pace:
    """How far a prediction is.

    Attributes:
        done: Images that are done, those of earlier attempts among them.
        predicted: Images that were predicted on here.
        seconds: How long that took.
    """

    done: int = 0
    predicted: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float | None:
        """The pace; None where nothing was predicted here."""
        return round(self.predicted / self.seconds, 2) if self.predicted and self.seconds else None


class _Model:
    """The model, loaded when the first shard needs it."""

    def __init__(self, stack: contextlib.ExitStack, found: Found) -> None:
        self._stack, self._found = stack, found
        self._loaded: LoadedModel | None = None

    def get(self) -> LoadedModel:
        if self._loaded is None:
            found = self._found
            with stdout_to_stderr():
                self._loaded = self._stack.enter_context(loaded(found.version, found.uri, found.description))
        return self._loaded


class PredictStage:
    """Predicts on every image below a prefix."""

    name = "predict"
    logic_version = 1
    policy = POLICIES["predict"]
    arguments = Arguments
    description = "Predicts with a registered model on the images below a prefix, shard after shard."

    def resolve(self, context: Context, arguments: Arguments) -> Resolution[Loaded]:
        """Finds the model in the registry, and lists the images with what tells one from another."""
        events = PredictionEvents(context, os.environ)
        context.at_end = events.ended
        uri = normalise_uri(arguments.images)
        check_apart(context.workspace.uri, uri)
        model = find(arguments.model, arguments.confidence, arguments.write, arguments.tile, os.environ)
        version, description = model.version, model.description
        listing = listed(open_prefix(uri, "dataset"), context)
        digest = version.training_digest or description.training_digest
        confidences = model.asked.confidences(description)
        found = Loaded(model, listing, events)
        tile = model.asked.tile
        return Resolution(
            inputs={
                "model": InputReference(version.training_receipt, digest),
                "images": InputReference(None, listing.digest()),
            },
            parameters={
                **(
                    {"confidences": Parameter(confidences, "argument" if arguments.confidence else "model")}
                    if confidences is not None
                    else {}
                ),
                **({"tile": Parameter(tile, "argument")} if tile is not None else {}),
                "write": Parameter(list(model.formats), "argument" if arguments.write else "default"),
            },
            loaded=found,
            notices=listing.notices,
            run_scalars=found.scalars,
        )

    def compute(self, context: Context, resolution: Resolution[Loaded], attempt: Attempt) -> Computed:
        """Predicts on what no shard has yet, and puts the shards together."""
        found, pace = resolution.loaded, Pace()
        found.events.begin(attempt.name, **found.scalars, images=len(found.listing))
        with contextlib.ExitStack() as stack:
            model = _Model(stack, found.model)
            results = []
            for shard in (shards := shards_of(len(found.listing))):
                results.append(self._shard(context, resolution, shard, model, pace))
                done = (shard.number + 1, len(shards), pace.done, len(found.listing))
                found.events.shard(*done, pace.images_per_second)
        scalars = {
            name: sum(result.receipt.scalars[name] for result in results) for name in ("images", "objects", _CODE)
        }
        if not scalars["images"]:
            raise InvalidDataset(
                f"{found.listing.prefix.uri}: none of the {len(found.listing):,} images can be read; {_why(results)}"
            )
        _put_together(found, results, key_of(self, resolution), attempt, context)
        return Computed(
            scalars={
                **found.scalars,
                **scalars,
                "shards": len(results),
                "images_per_second": pace.images_per_second,
                WARNINGS: {_CODE: scalars[_CODE]} if scalars[_CODE] else {},
            },
            timings={"predicting": round(pace.seconds, 3)},
        )

    def _shard(self, context: Context, whole: Resolution[Loaded], shard: Shard, model: _Model, pace: Pace) -> Result:
        """The result of a shard; predicted on unless it is there already."""
        found = whole.loaded
        resolution = Resolution(
            inputs={
                "model": whole.inputs["model"],
                "images": InputReference(None, found.listing.digest(shard.first, shard.last)),
            },
            parameters={
                **{name: value for name, value in whole.parameters.items() if name != "write"},
                PARAMETER: Parameter(shard.number, "listing"),
            },
        )
        key = key_of(self, resolution)
        existing = receipts.look(context.workspace, self.name, key)
        if existing is not None and not context.force and existing.intact():
            pace.done += shard.last - shard.first
            context.advanced(pace.done, len(found.listing))
            return existing
        name, began = uuid.uuid4().hex[:12], time.monotonic()
        count = -(-len(found.listing) // SHARD_IMAGES)
        # In the run's record, so that cleanup knows what an attempt that is lost leaves.
        state = context.run.state(self.name, f"{shard.number + 1}/{count}")
        state.state, state.key, state.attempts = "running", key, [*state.attempts, name]
        context.run.write_state(state)
        with temporary_folder(self.name) as work:
            attempt = Attempt(context.workspace.child(f"{self.name}/{key}"), name, work, context.alive)
            computed = _predicted(context, found, shard, model.get(), pace, attempt)
            seconds, replacing = time.monotonic() - began, existing.etag if existing is not None else None
            result = publish(self, context, resolution, attempt, computed, seconds, key, replacing)
        state.state, state.receipt = "succeeded", result.uri
        context.run.write_state(state)
        return result


def shards_of(images: int) -> list[Shard]:
    """The shards of so many images."""
    starts = range(0, images, SHARD_IMAGES)
    return [Shard(number, first, min(first + SHARD_IMAGES, images)) for number, first in enumerate(starts)]


def _predicted(
    context: Context, found: Loaded, shard: Shard, model: LoadedModel, pace: Pace, attempt: Attempt
) -> Computed:
    """Predicts on a shard's images, and puts the outputs into its attempt."""
    unreadable: list[dict[str, str]] = []
    began = time.monotonic()

    def advanced() -> None:
        pace.done, pace.predicted = pace.done + 1, pace.predicted + 1
        context.advanced(pace.done, len(found.listing))

    def refused(picture: Picture, why: str) -> None:
        unreadable.append({"file_name": picture.key, "reason": why})
        if len(unreadable) <= TOLD:
            notice(f"predict: {why}")
            live.emit("notice", stage=context.limits.stage, text=why)
        advanced()

    def predictions() -> Iterator[Predicted]:
        pictures = found.listing.pictures(shard.first, shard.last)
        for one in predict(model.predictor, pictures, found.model.asked, refused):
            yield one
            advanced()

    path = attempt.work / f"{PREDICTIONS}.parquet"
    with stdout_to_stderr(), writing(path):
        counts = table.write(path, predictions())
    pace.seconds += time.monotonic() - began
    attempt.upload(PREDICTIONS, "predictions.parquet", path, result=True)
    if unreadable:
        attempt.write(UNREADABLE, "unreadable.json", msgspec.json.encode(unreadable), result=True)
    return Computed(scalars={"images": counts.images, "objects": counts.objects, _CODE: len(unreadable)})


def _why(results: Sequence[Result]) -> str:
    """A sentence about the first image that can't be read."""
    first = next(result for result in results if UNREADABLE in result.receipt.outputs)
    return str(msgspec.json.decode(first.read(UNREADABLE))[0]["reason"])


def _put_together(found: Loaded, results: Sequence[Result], content: str, attempt: Attempt, context: Context) -> None:
    """Puts the tables of all shards, and what is made from them, into the attempt; ``content`` is the whole's key."""
    tables = []
    for number, result in enumerate(results):
        name = f"{PREDICTIONS}-{number:05}"
        entry, path = result.output(PREDICTIONS), f"{attempt.name}/{name}.parquet"
        attempt.key_prefix.copy_from(result.prefix, entry.path, path)
        attempt.outputs[name] = Output(path, entry.size, entry.sha256, True)
        tables.append(result.fetch(PREDICTIONS, attempt.work / f"{name}.parquet"))
        context.alive()
    refused = [result for result in results if UNREADABLE in result.receipt.outputs]
    if refused:
        _put(attempt, UNREADABLE, "unreadable.json", _joined(refused))
    description, formats = found.model.description, found.model.formats
    name = f"{found.listing.prefix.uri.rsplit('/', 1)[-1]} by {found.model.version.label}"
    classes = written.classes_of(description.classes, description.keypoints)
    if written.COCO in formats:
        _put(attempt, written.COCO, "coco.json", written.coco(tables, description.task, classes, name))
    if written.DICE in formats:
        parts = written.dice(tables, description.task, classes, name, content)
        _put(attempt, written.DICE, annotation_file(description.task), parts)
    holes = written.with_holes(tables) if formats and description.task == "segmentation" else 0
    if holes:
        notice(
            f"predict: {holes:,} objects have holes, which no file of {' or '.join(formats)} holds: they are filled there."
        )
    _draw(found, tables, attempt)


def _joined(results: Sequence[Result]) -> Iterator[bytes]:
    """The parts of one JSON list of the lists of shards."""
    for number, result in enumerate(results):
        yield (b"," if number else b"[") + result.read(UNREADABLE)[1:-1]
    yield b"]"


def _put(attempt: Attempt, name: str, file: str, parts: Iterator[bytes]) -> None:
    """Puts an output that is never held in memory as a whole."""
    path = attempt.work / file
    with writing(path), path.open("wb") as opened:
        opened.writelines(parts)
    attempt.upload(name, file, path, result=True)


def _draw(found: Loaded, tables: Sequence[Path], attempt: Attempt) -> None:
    """Puts pictures of a few images with what was found on them: the same ones for the same keys, wherever these lie."""
    chosen = heapq.nsmallest(SAMPLES, found.listing.keys(), key=lambda key: sha256(key.encode()))
    rows = found.listing.table.filter(pc.is_in(found.listing.table["key"], pa.array(chosen))).to_pylist()
    pictures = {row["key"]: Picture(row["key"], found.listing.prefix, **row) for row in rows}
    number = 0
    for one in (one for path in tables for one in table.read(path, chosen)):
        # A sample is a decoration: an image that is gone by now is no reason to fail.
        with contextlib.suppress(VisionloopError):
            picture = pictures[one.file_name]
            predicted = Predicted(picture, one.width, one.height, one.predictions, picture.read())
            jpeg = drawn(predicted, len(found.model.description.classes))
            if jpeg is not None:
                number += 1
                attempt.write(
                    f"sample-{number:02}", f"samples/{number:02}-{stem_of(one.file_name)}.jpg", jpeg, result=False
                )


STAGE = PredictStage()
