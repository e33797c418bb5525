"""Tasks of a DICE dataset and the annotation file that belongs to each."""

from __future__ import annotations

from collections.abc import Collection

from visionloop.core.errors import DatasetNotFound, InvalidConfig

#: The four tasks, by the names that file names and arguments use.
TASKS = ("detection", "segmentation", "classification", "pose")

#: The older single annotation file, used when a task has no file of its own.
LEGACY_FILE = "annotations.json"

#: The dataset's own description, of which the configuration of its split is read.
METADATA = "metadata.json"

_ALIASES = {
    "detect": "detection",
    "object_detection": "detection",
    "segment": "segmentation",
    "instance_segmentation": "segmentation",
    "classify": "classification",
    "image_classification": "classification",
    "keypoint": "pose",
    "keypoints": "pose",
    "keypoint_detection": "pose",
    "pose_estimation": "pose",
    "human_pose_estimation": "pose",
}


def annotation_file(task: str) -> str:
    """Name of a task's annotation file at the dataset's root: ``annotations_detection.json``."""
    return f"annotations_{task}.json"


def canonical_task(text: str) -> str | None:
    """The task that ``text`` spells (``object_detection`` is detection), or None."""
    name = text.strip().lower().replace("-", "_").replace(" ", "_")
    name = _ALIASES.get(name, name)
    return name if name in TASKS else None


def parse_task(text: str, where: str) -> str:
    """The task that ``text`` spells.

    Args:
        text: A task or one of its aliases (``object_detection``, ``instance_segmentation``, ``keypoints`` …).
        where: Where the text comes from, for the error (``--task``).

    Raises:
        InvalidConfig: If it does not spell a task.
    """
    task = canonical_task(text)
    if task is None:
        raise InvalidConfig(f"{where}: {text!r} is not a task; choose one of {', '.join(TASKS)}.")
    return task


def choose_task(files: Collection[str], requested: str | None, dataset: str) -> tuple[str | None, str]:
    """Chooses a dataset's annotation file.

    Args:
        files: Names of the objects at the dataset's root.
        requested: The task asked for (an alias is fine), or None to take the only one.
        dataset: The dataset's URI, for errors.

    Returns:
        The task and the file's name. The task is None only for the legacy file without a request: then the file's own
        ``task_type`` decides, so give None to ``decode`` and read ``Dataset.task``.

    Raises:
        InvalidConfig: If there are several tasks and none was requested, or the requested one is missing.
        DatasetNotFound: If there is no annotation file.
    """
    task = None if requested is None else parse_task(requested, "--task")
    present = [name for name in TASKS if annotation_file(name) in files]
    if task is not None and task in present:
        return task, annotation_file(task)
    if task is None and len(present) == 1:
        return present[0], annotation_file(present[0])
    if task is None and len(present) > 1:
        raise InvalidConfig(f"{dataset}: the dataset has annotations for {', '.join(present)}; choose one with --task.")
    if LEGACY_FILE in files:
        return task, LEGACY_FILE
    if present:
        raise InvalidConfig(
            f"{dataset}: the dataset has no {annotation_file(str(task))}, only annotations for {', '.join(present)}; "
            "choose one of these with --task, or export this task too."
        )
    raise DatasetNotFound(
        f"{dataset}: no annotations_{{{','.join(TASKS)}}}.json and no {LEGACY_FILE} lies there; "
        "check the URI, or export the dataset as DICE."
    )
