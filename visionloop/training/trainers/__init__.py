"""Trainers: the interface of a training library, and one folder for each library.

A trainer never sees a store, a receipt or an engine: it reads a folder, writes files into a folder and reports what it
finished. The train stage runs it in a child process; evaluate and the registered model reach it through the same
protocol. A third party's trainer is found by the entry point group ``visionloop.trainers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from visionloop.core.policy import StagePolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Value = bool | int | float | str | None

#: The version of the protocol: 2 predicts on arrays, and gives masks, keypoints and classes of whole images.
PROTOCOL = 2


@dataclass(frozen=True)
class Setting:
    """One setting of a trainer: its type, default, range or choices, and meaning.

    ``minimum`` and ``maximum`` are inclusive. ``optional`` allows None. ``true_means`` is the choice that ``true`` stands for,
    where ``false`` is allowed beside the choices. ``affects_result`` False keeps it out of every key (``device``);
    ``default_in_key`` False keeps it out while it has its default (``workers``, ``cache``, and a setting that older
    results do not have).
    """

    kind: type
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    true_means: str | None = None
    affects_result: bool = True
    default_in_key: bool = True


@dataclass(frozen=True)
class TrainingJob:
    """A trainer's inputs for a training.

    Attributes:
        task: ``detection``, ``segmentation``, ``classification`` or ``pose``.
        dataset: Folder with ``images/{train,val,test}/…`` and ``labels/{train,val,test}/…`` (YOLO), or
            ``{train,val,test}/{class}/…`` (ImageFolder). The first also has all labels in ``labels.tar`` and the images' sizes
            in ``sizes.jsonl``, where a stage made it.
        classes: Class names by index.
        config: The resolved configuration (every setting of the trainer, by name).
        weights: A local file with starting weights, or a folder where the trainer has ``weights_files``; None to start from scratch.
        work: An empty, writable folder of this attempt.
        checkpoint: The checkpoint to resume from (written by this trainer as an ``EpochReport.checkpoint``), or None.
        batch: The batch to use, smaller than the configured one after the GPU's memory ran out; accumulation keeps the
            effective batch.
        keypoints: For pose the keypoints' names, in their order in a label.
        flip: For pose the index of each keypoint's counterpart in a mirrored image; empty where that is not known.
    """

    task: str
    dataset: Path
    classes: tuple[str, ...]
    config: Mapping[str, Any]
    weights: Path | None
    work: Path
    checkpoint: Path | None
    batch: int
    keypoints: tuple[str, ...] = ()
    flip: tuple[int, ...] = ()


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch: 1-based number, metrics by the names of docs/contract.md, and a file from which training can be resumed.

    ``best_value`` is the primary metric's best so far and ``best_epoch`` its epoch; where val has no ground truth for it, the
    latest epoch is the best, in either mode, and ``val_metrics`` lacks it: a 0 would be a measurement. ``stopping`` means that the trainer ends
    after this epoch (all done, or early stopping). ``seconds`` says what the epoch's time went into, ``loading``, ``computing`` and
    ``validating`` (`visionloop.training.stopwatch`), from the end of the first batch of the process on; a trainer may leave it out.
    ``peak_gpu_bytes`` is the most memory that was used on a GPU, where other processes than the trainer's own compute.
    ``train_batches`` is the number of batches that the epoch was trained on, those of validation not among them.
    A value that is not finite is left out with a notice.
    """

    epoch: int
    train_metrics: Mapping[str, float]
    val_metrics: Mapping[str, float]
    checkpoint: Path
    best_epoch: int
    best_value: float
    stopping: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_gpu_bytes: int | None = None
    train_batches: int | None = None


@dataclass(frozen=True)
class StepReport:
    """A file from which training can be resumed within an epoch: the 1-based epoch under way, and how many of its steps are done."""

    epoch: int
    step: int
    checkpoint: Path


class Listener(Protocol):
    """Receives reports of finished work, in the trainer's process."""

    def batch(self, epoch: int, batch: int, batches: int) -> None:
        """Called after each batch of training or validation, as a sign of life."""

    def images(self, split: str, paths: Iterable[Path | str]) -> None:
        """Called once for ``train`` and once for ``val``, before the first epoch, with the image files that the trainer uses.

        They are compared with the converted dataset's: a training on fewer ends with 65. A trainer that never calls it is
        named in the log.
        """

    def epoch(self, report: EpochReport) -> bool:
        """Called after each epoch. Returns once its checkpoint is set aside; False asks the trainer to stop now.

        The checkpoint is made durable while the trainer goes on with the next epoch, whose own call waits for it: at most one is
        under way. The trainer may remove its file, or write the next one over it, as soon as this returns; one that writes a
        file an epoch does not change a file that it has reported.
        """


@runtime_checkable
class StepListener(Protocol):
    """A listener that also takes checkpoints within an epoch; the stage's own one does."""

    def step(self, report: StepReport) -> None:
        """Called after a step, where ``checkpoint_minutes`` have passed since the last checkpoint; returns as ``Listener.epoch`` does."""


@dataclass(frozen=True)
class TrainingResult:
    """The files and figures of a finished training.

    ``best`` and ``last`` hold no date, host, path or run id: equal trainings give equal bytes. ``history`` has one entry per
    epoch: ``{"epoch", "train_metrics", "val_metrics"}``. ``plots`` are pictures to look at.
    """

    best: Path
    last: Path
    best_epoch: int
    epochs: int
    history: Sequence[Mapping[str, Any]]
    plots: Sequence[Path] = ()
    batch: int | None = None


@dataclass(frozen=True)
class Prediction:
    """One predicted or true object, or one class of a whole image. Coordinates are pixels of the picture as it is shown.

    Attributes:
        class_index: The class, by the model's own order.
        confidence: From 0 to 1; 1 if it is true.
        box: x1, y1, x2, y2; None for a class of a whole image.
        polygons: The outlines of an object's parts, each x1, y1, x2, y2 …; empty without a mask.
        holes: The outlines of what lies inside them and is not the object, in the same form.
        keypoints: x, y and confidence by the keypoint's name; empty without keypoints.
        mask: The mask as COCO's compressed run-length code of the whole picture, where it was asked for.
    """

    class_index: int
    confidence: float
    box: tuple[float, float, float, float] | None = None
    polygons: Sequence[Sequence[float]] = ()
    holes: Sequence[Sequence[float]] = ()
    keypoints: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    mask: str | None = None


@dataclass(frozen=True)
class PredictionSettings:
    """What a prediction is asked for.

    Attributes:
        confidence: The least confidence of an object; a class of a whole image is given whatever its confidence.
        masks: Whether the masks themselves are wanted beside their outlines.
        classes: How many classes of a whole image are given, the most confident first.
    """

    confidence: float = 0.25
    masks: bool = False
    classes: int = 5


@dataclass(frozen=True)
class ClassCurves:
    """Curves of one class at an IoU of 0.5, or of images by their likeliest class, from any number of points above one, evenly spaced from 0 to 1.

    ``precision`` is read at these recalls, ``f1`` (the harmonic mean of precision and recall) at these least confidences.
    """

    precision: Sequence[float]
    f1: Sequence[float]


@dataclass(frozen=True)
class Evaluation:
    """Metrics on one split: ``metrics`` over all, ``per_class`` by class name, both by the names of docs/contract.md.

    ``not_measured`` gives the reason for each metric without a value, and ``not_measured_per_class`` the same by class name: a
    metric without ground truth has a reason here, never a 0 there. ``classes`` are the model's own class names by index, which
    are not the dataset's where it was trained on all classes as one; left empty they are the dataset's.

    ``resampled`` measures a metric again where image i counts a whole number of times: ``resampled(metric, numbers)``, from
    matches that were made once. It returns None for a metric that it does not measure, or where nothing is left to measure;
    without it evaluate has no interval.
    ``files`` are the paths of the images in the dataset's folder (``images/test/a.png``), in the order of these numbers; a
    trainer may leave them out, and then no two models are compared image by image.
    ``confusion`` is a (C + 1) × (C + 1) matrix of counts, rows predicted, columns true, the last of each the background.
    ``right`` and ``wrong`` are the confidences of the detections on all images: right is one that matches a true object of
    its class with an IoU of at least 0.5, as mAP50 counts it. A trainer may leave them empty; evaluate then draws no ROC curve.
    ``curves`` are those of the measured classes by name. A trainer may leave them out too; the report then says so.
    """

    metrics: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    images: int
    confusion: Sequence[Sequence[int]] = ()
    right: Sequence[float] = ()
    wrong: Sequence[float] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    not_measured_per_class: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    classes: Sequence[str] = ()
    resampled: Callable[[str, NDArray[Any]], float | None] | None = None
    files: Sequence[str] = ()
    curves: Mapping[str, ClassCurves] = field(default_factory=dict)


class Predictor(Protocol):
    """A loaded model."""

    classes: tuple[str, ...]

    def predict(
        self, images: Iterable[NDArray[np.uint8]], settings: PredictionSettings = PredictionSettings()
    ) -> Iterator[list[Prediction]]:
        """Yields what each image shows, in their order, the most confident first.

        Args:
            images: Height × width × 3 each, in RGB, as it is shown. They are taken one after the other.
            settings: What is asked for.
        """


@dataclass(frozen=True)
class BatchTrial:
    """What training on one batch of train, again and again, has shown.

    Attributes:
        losses: The loss before the first step and after each one; the last one may not be finite.
        gradients: By part of the model, of those with weights that are trained, the largest norm of its gradients in any step; 0 where none
            arrived.
        weights: How many numbers the model has.
        trained: How many of them are trained.
        images: Images of the batch.
        chance: The loss of a model that knows nothing; None where it depends on the images.
    """

    losses: Sequence[float]
    gradients: Mapping[str, float]
    weights: int
    trained: int
    images: int
    chance: float | None = None


@runtime_checkable
class TriesABatch(Protocol):
    """A trainer that can train on one batch for ``visionloop run check``."""

    def try_batch(self, job: TrainingJob, listener: Listener) -> BatchTrial:
        """Trains on the first batch of train, again and again, until ``visionloop.training.trial.is_enough``.

        The batch, the augmentation of its images and all random numbers are the same in each step; the learning rate is that after the
        warm-up. Nothing but ``listener.batch`` is told, and no file is kept.

        Args:
            job: A training on a few images: with several devices it is tried on the first, with its share of the batch.
            listener: Told of each step, as a sign of life.

        Raises:
            VisionloopError: As ``Trainer.train``.
        """


@dataclass(frozen=True)
class Rows:
    """What the outputs of an exported model say of one picture: a row for each object that it may show, or one for the whole.

    Attributes:
        scores: Rows × classes, from 0 to 1.
        boxes: Rows × 4: x1, y1, x2, y2 in pixels of the model's input; None for the classes of a whole image.
        further: Rows × any number: keypoints in pixels of the input and their confidences, masks, or what masks are made of.
        whole: Numbers that belong to no row, such as the prototypes of masks.
    """

    scores: NDArray[Any]
    boxes: NDArray[Any] | None = None
    further: NDArray[Any] | None = None
    whole: NDArray[Any] | None = None


@dataclass(frozen=True)
class Exported:
    """A model in another format, and what it is compared with.

    Attributes:
        file: The file.
        preprocessing: How a picture becomes an input, in the fields that docs/export.md lists.
        prepared: Makes an input, 1 × 3 × height × width, of a picture (height × width × 3 in RGB).
        reference: The outputs of the model itself for an input, in the order of the file's.
        rows: What outputs say.
        located: Boxes (N × 4) of the input of a picture of this height and width, in pixels of the picture; without it, or for whole
            images, how good the model is as a detector is not measured.
        suppressed: Whether no two rows are the same object.
        outputs: How outputs are read, in the fields that docs/export.md lists; empty where no program but the trainer's can.
    """

    file: Path
    preprocessing: Mapping[str, Any]
    prepared: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    reference: Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]
    rows: Callable[[Sequence[NDArray[Any]]], Rows]
    located: Callable[[NDArray[Any], tuple[int, int]], NDArray[Any]] | None = None
    suppressed: bool = True
    outputs: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Exports(Protocol):
    """A trainer that writes its models in other formats for ``visionloop model export``."""

    #: The formats: ``onnx``, ``torchscript``.
    formats: tuple[str, ...]

    def export(self, checkpoint: Path, format: str, folder: Path) -> Exported:
        """Writes a ``TrainingResult.best`` in one of ``formats`` into a folder. Nothing is downloaded or installed.

        Raises:
            InvalidConfig: If the model can't be written in this format, or a package is missing.
        """


@runtime_checkable
class Advises(Protocol):
    """A trainer that knows words of its library that are not settings here."""

    def advice(self, name: str, value: object) -> str | None:
        """What to do instead of a setting's name or value, as the end of a sentence; None where there is nothing to say.

        Args:
            name: The setting's name as it was given.
            value: Its value as it was given: text, number, list.
        """


@runtime_checkable
class Remarks(Protocol):
    """A trainer that knows settings which are allowed, and do nothing or little beside others."""

    def remarks(self, values: Mapping[str, Value]) -> list[str]:
        """A sentence about each such setting; ``values`` are those of all settings by name."""


class Trainer(Protocol):
    """A training library behind one interface. Import the library inside the methods, never at module level.

    A trainer may have a ``distribution``, the name under which pip knows its library, and that library's ``licence`` as an SPDX
    expression: ``visionloop trainer list`` shows them, and the image states the licence.
    Where the distribution is not installed the trainer is not taken unless it is named, and refused where a training would run
    with what is installed; without one a trainer counts as installed.

    A trainer may have an ``environment``: the names of variables that its child process is given besides those that every
    trainer's child is given (``visionloop.training.environment``).

    A trainer may have ``interpolation``: by task the name of the one by which its loader shrinks an image to ``imgsz``
    (``visionloop.data.reduced``); without it the setting ``resize`` is refused.

    A trainer may have ``demos``: by task the settings with which it learns the sample dataset in minutes (``visionloop demo``).

    A trainer may have ``label_files`` False: it reads labels with ``visionloop.data.view``, so that they are not unpacked into a
    file for each image, which takes a minute for a million.

    A trainer may have ``several_devices`` True: it trains on all GPUs of one machine that the setting ``device`` names (``0,1``), with
    ``job.batch`` divided among them; without it such a device is refused.

    A trainer may have ``resumes_within_epoch`` True: where the setting ``checkpoint_minutes`` is above 0, it reports a checkpoint to a
    ``StepListener`` at least that often, and goes on from it to the bytes of a training that was not interrupted; without it that
    setting is refused.

    A trainer may have ``weights_files``: its starting weights may then be a folder. For each file of such a folder it gives the names
    that the file may have, of which the first that is there counts: ``(("config.json",), ("model.safetensors", "model.bin"))``. The
    SHA-256 of all of them is in the key, and ``TrainingJob.weights`` is a folder that holds these files alone. A name in
    ``weights_names`` that stands for a folder ends with a slash.
    """

    name: str
    #: The version of this protocol that the trainer speaks: ``PROTOCOL``.
    protocol: int
    #: Raised where equal inputs give other weights.
    logic_version: int
    #: Tasks that this trainer trains end to end.
    tasks: frozenset[str]
    #: The train row of the policy table for this trainer (above all its image).
    policy: StagePolicy
    #: Metric names that may be ``primary_metric``, by task.
    metrics: Mapping[str, tuple[str, ...]]

    def settings(self, task: str) -> Mapping[str, Setting]:
        """The advanced settings of a task, in addition to the basic ones of ``visionloop.training.configuration``."""

    def normalise(self, values: dict[str, Any], task: str) -> dict[str, Any]:
        """Maps values of older configurations to those that the library accepts, before types and ranges are checked.

        Raises:
            InvalidConfig: If a value has no meaning here.
        """

    def model_task(self, model: str) -> str | None:
        """The task that a bare model or YAML name is for, or None if the name does not show it (a path, a URI)."""

    def weights_names(self, model: str) -> tuple[str, ...]:
        """File names that may hold a bare model name's weights (``yolo11n`` → ``yolo11n.pt``); empty for a YAML name."""

    def is_architecture(self, model: str) -> bool:
        """Whether ``model`` names an architecture that the library ships (a YAML name), to be trained from scratch."""

    def train(self, job: TrainingJob, listener: Listener) -> TrainingResult:
        """Trains, resuming from ``job.checkpoint`` if given; a checkpoint after the last epoch is only finalised.

        Raises:
            OutOfMemory: If the GPU's memory is used up.
            SickMachine: If the GPU is lost.
            InvalidConfig: If the training diverged (NaN); the last finite checkpoint was reported before.
        """

    def evaluate(
        self,
        checkpoint: Path,
        dataset: Path,
        split: str,
        config: Mapping[str, Any],
        work: Path,
        on_batch: Callable[[int, int], None],
    ) -> Evaluation:
        """Evaluates a ``TrainingResult.best`` on one split of a dataset folder; ``on_batch(done, total)`` is a sign of life."""

    def predictor(self, checkpoint: Path) -> Predictor:
        """Loads a ``TrainingResult.best``."""

    def requirements(self) -> list[str]:
        """The pinned pip requirements that loading a checkpoint needs."""
