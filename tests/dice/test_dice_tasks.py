import pytest

from visionloop.core.errors import DatasetNotFound, InvalidConfig
from visionloop.data.dice.tasks import LEGACY_FILE, TASKS, annotation_file, choose_task, parse_task

URI = "s3://training-datasets/42/"


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("detection", "detection"),
        ("object_detection", "detection"),
        ("Object-Detection", "detection"),
        ("instance segmentation", "segmentation"),
        ("image_classification", "classification"),
        ("keypoints", "pose"),
        ("pose_estimation", "pose"),
    ],
)
def test_aliases_are_read(text: str, task: str) -> None:
    assert parse_task(text, "--task") == task


def test_an_unknown_task_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidConfig) as error:
        parse_task("ocr", "--task")
    assert (
        str(error.value) == "--task: 'ocr' is not a task; choose one of detection, segmentation, classification, pose."
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_only_file_is_taken(task: str) -> None:
    files = {annotation_file(task), "metadata.json", LEGACY_FILE}
    assert choose_task(files, None, URI) == (task, f"annotations_{task}.json")


def test_a_requested_task_takes_its_own_file_before_the_legacy_one() -> None:
    files = {"annotations_detection.json", "annotations_pose.json", LEGACY_FILE}
    assert choose_task(files, "keypoints", URI) == ("pose", "annotations_pose.json")
    assert choose_task(files, "segmentation", URI) == ("segmentation", LEGACY_FILE)


def test_the_legacy_file_decides_its_own_task_without_a_request() -> None:
    assert choose_task({LEGACY_FILE}, None, URI) == (None, LEGACY_FILE)


def test_several_tasks_and_no_choice_are_refused_naming_them() -> None:
    files = {"annotations_pose.json", "annotations_detection.json", LEGACY_FILE}
    with pytest.raises(InvalidConfig, match="annotations for detection, pose; choose one with --task"):
        choose_task(files, None, URI)


def test_a_task_that_the_dataset_lacks_is_refused_naming_what_it_has() -> None:
    with pytest.raises(InvalidConfig, match=r"no annotations_pose.json, only annotations for detection"):
        choose_task({"annotations_detection.json"}, "pose", URI)


@pytest.mark.parametrize("requested", [None, "detection"])
def test_no_annotation_file_is_no_dataset(requested: str | None) -> None:
    with pytest.raises(DatasetNotFound, match=URI):
        choose_task({"metadata.json", "readme.txt"}, requested, URI)
