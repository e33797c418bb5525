"""The labels of a view as the library's scan would return them, from the archive that convert wrote and the sizes beside it.

The library opens every image and every label file at each start to learn the same.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionloop.core.errors import InvalidReceipt
from visionloop.core.memory import uncollected
from visionloop.data import view

#: How many label files are parsed at once.
AT_ONCE = 10_000

#: Numbers of a detection's line: class, centre, width and height.
COLUMNS = 5

#: The library's tolerance of a coordinate beyond the picture's border.
LARGEST = 1.01

Parsed = dict[str, Any]


def view_of(folder: object) -> Path | None:
    """The view that a split's folder of images (``…/images/{split}``) lies in, if it has an archive of labels."""
    if not isinstance(folder, str | Path):
        return None
    images = Path(folder).parent
    return images.parent if images.name == "images" and view.has_labels(images.parent) else None


def read(dataset: Any, root: Path, split: str, size_of: Callable[[str], tuple[int, int]]) -> dict[str, Any]:
    """What the library's ``cache_labels`` returns for a split.

    Args:
        dataset: The library's dataset, whose images are listed.
        root: The view.
        split: The split.
        size_of: Height and width of an image file, for one whose size is not recorded.

    Raises:
        InvalidReceipt: If a label is not as convert writes it, or an image has none.
    """
    with uncollected():
        sizes, parsed = view.read_sizes(root, split), dict(_parsed(dataset, view.read_labels(root, split)))
        start, labels, empty = len(str(root)) + 1, [], 0
        for file in dataset.im_files:
            path = file[start:]
            stem = path.partition("/")[2].rpartition(".")[0]
            try:
                label, size = parsed.pop(f"labels/{stem}.txt"), sizes[path]
            except KeyError:
                raise _refused(f"{path} has no label") from None
            shape = (size.height, size.width) if size.height and size.width else size_of(file)
            empty += not len(label["cls"])
            labels.append({"im_file": file, "shape": shape, **label, "normalized": True, "bbox_format": "xywh"})
    return {
        "labels": labels,
        "hash": "",
        "version": "",
        "msgs": [],
        "results": (len(labels), 0, empty, 0, len(labels)),  # found, missing, empty, corrupt, all
    }


def _parsed(dataset: Any, texts: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, Parsed]]:
    classes = None if dataset.single_cls else len(dataset.data["names"])
    parse: Callable[[Sequence[bytes]], list[Parsed]]
    if dataset.use_keypoints:
        parse = functools.partial(_poses, shape=dataset.data["kpt_shape"])
    elif dataset.use_segments:
        parse = _polygons
    else:
        parse = _boxes
    while batch := list(itertools.islice(texts, AT_ONCE)):
        try:
            labels = parse([text for _, text in batch])
        except ValueError:
            labels = []
        if len(labels) != len(batch) or not _plausible(labels, classes):
            raise _refused(f"the labels between {batch[0][0]} and {batch[-1][0]} are not what convert writes")
        yield from zip((name for name, _ in batch), labels, strict=True)


def _boxes(texts: Sequence[bytes]) -> list[Parsed]:
    """Parses all at once; each image's arrays are parts of one. Raises ValueError."""
    counts = np.fromiter((text.count(b"\n") for text in texts), np.int64, len(texts))
    values = _numbers(b"".join(texts)).reshape(int(counts.sum()), COLUMNS)
    ends = counts.cumsum()
    return [
        {"cls": values[begin:end, 0:1], "bboxes": values[begin:end, 1:], "segments": [], "keypoints": None}
        for begin, end in zip((ends - counts).tolist(), ends.tolist(), strict=True)
    ]


def _polygons(texts: Sequence[bytes]) -> list[Parsed]:
    """A line is a class and x, y of each corner. Raises ValueError."""
    from ultralytics.utils.ops import segments2boxes

    labels = []
    for text in texts:
        lines = [_numbers(line) for line in text.splitlines()]
        segments = [line[1:].reshape(-1, 2) for line in lines]
        labels.append(
            {
                "cls": np.array([line[:1] for line in lines], np.float32).reshape(-1, 1),
                "bboxes": segments2boxes(segments) if segments else np.zeros((0, 4), np.float32),
                "segments": segments,
                "keypoints": None,
            }
        )
    return labels


def _poses(texts: Sequence[bytes], shape: tuple[int, int]) -> list[Parsed]:
    """A line is a box's five numbers and x, y and visibility of each keypoint. Raises ValueError."""
    labels = []
    for text in texts:
        values = _numbers(text).reshape(text.count(b"\n"), COLUMNS + shape[0] * shape[1])
        keypoints = values[:, COLUMNS:].reshape(-1, *shape)
        labels.append({"cls": values[:, 0:1], "bboxes": values[:, 1:COLUMNS], "segments": [], "keypoints": keypoints})
    return labels


def _numbers(text: bytes) -> npt.NDArray[np.float32]:
    """Numbers between white space. Raises ValueError."""
    return np.array(text.split(), np.float64).astype(np.float32)


def _plausible(labels: Sequence[Parsed], classes: int | None) -> bool:
    """Whether the library would take each label: whole classes that there are, coordinates within the picture."""
    numbers = np.concatenate([label["cls"] for label in labels])
    boxes = np.concatenate([label["bboxes"] for label in labels])
    whole = bool(((numbers >= 0) & (numbers % 1 == 0)).all()) and (classes is None or bool((numbers < classes).all()))
    return whole and bool(((boxes >= 0) & (boxes <= LARGEST)).all())


def _refused(what: str) -> InvalidReceipt:
    return InvalidReceipt(f"{view.LABELS}: {what}; run again with --force convert.")
