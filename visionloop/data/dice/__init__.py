"""The DICE dataset format: reading, checking, identifying, splitting and labelling. Pure functions, no stores."""

from visionloop.data.annotations.classes import Class
from visionloop.data.dice.checks import Header, Unsupported, check, is_too_small
from visionloop.data.dice.content import annotations_hash, content, content_hash
from visionloop.data.dice.difference import difference
from visionloop.data.dice.findings import Finding
from visionloop.data.dice.format import (
    DEEPEST,
    SPLITS,
    Annotation,
    Dataset,
    Image,
    RunLength,
    Split,
    Statistics,
    decode,
    depth,
    encode,
)
from visionloop.data.dice.labels import (
    class_folders,
    class_index,
    class_order,
    flip_index,
    image_folder_class,
    keypoint_shape,
    view_names,
    yolo_label,
)
from visionloop.data.dice.presence import LabelCounts, absences, count_labels, image_labels
from visionloop.data.dice.split import (
    Assignment,
    SharedSplit,
    SplitRule,
    assign,
    groups,
    parse_split,
    shared_split,
    split_from_object,
)
from visionloop.data.dice.tasks import LEGACY_FILE, TASKS, annotation_file, choose_task, parse_task

__all__ = [
    "DEEPEST",
    "LEGACY_FILE",
    "SPLITS",
    "TASKS",
    "Annotation",
    "Assignment",
    "Class",
    "Dataset",
    "Finding",
    "Header",
    "Image",
    "LabelCounts",
    "RunLength",
    "SharedSplit",
    "Split",
    "SplitRule",
    "Statistics",
    "Unsupported",
    "absences",
    "annotation_file",
    "annotations_hash",
    "assign",
    "check",
    "choose_task",
    "class_folders",
    "class_index",
    "class_order",
    "content",
    "content_hash",
    "count_labels",
    "decode",
    "depth",
    "difference",
    "encode",
    "flip_index",
    "groups",
    "image_folder_class",
    "image_labels",
    "is_too_small",
    "keypoint_shape",
    "parse_split",
    "parse_task",
    "shared_split",
    "split_from_object",
    "view_names",
    "yolo_label",
]
