"""Which files of a dataset are COCO's, which of them a task reads, and where the images of each lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from visionloop.core.errors import DatasetNotFound, InvalidConfig, InvalidDataset, NotFound
from visionloop.data.formats.coco.document import has_keypoints
from visionloop.data.formats.document import mapped
from visionloop.data.formats.keys import named, other_files
from visionloop.data.formats.listing import ends_of, is_hidden, not_whole
from visionloop.data.formats.outline import outline
from visionloop.data.formats.source import Source
from visionloop.data.lfs import refuse_pointer
from visionloop.data.sentences import printable

#: How many JSON files are looked into: the least deep ones.
MOST_FILES = 256

#: How many of a file's first names tell where its images lie.
_NAMES = 100


@dataclass
class Files:
    """The files that are read, by key, and the notices about the others."""

    keys: list[str]
    notices: list[str] = field(default_factory=list)


def coco_files(source: Source) -> Files:
    """The JSON files that are COCO's by their outlines; a single large one, of which a part is seen, whatever it is.

    Raises:
        InvalidDataset: If another one is not whole, so that nothing tells what it was.
        DatasetNotFound: If there is none.
    """
    from visionloop.data.formats.coco import is_coco

    listed = source.objects()["key"]
    every = listed.filter(pc.match_substring_regex(listed, r"(?i)\.json$")).to_pylist()
    visible = sorted((key for key in every if not is_hidden(key)), key=lambda key: (key.count("/"), key))
    looked = visible[:MOST_FILES]

    def look(key: str) -> tuple[bool, str | None]:
        try:
            ends = ends_of(source.prefix, key)
        except NotFound:
            return False, None
        refuse_pointer(ends[0], key)
        alone = len(looked) == 1 and bool(ends[1])
        return alone or is_coco(outline(*ends)), not_whole(*ends)

    files, others = Files([]), []
    for key, (found, reason) in zip(looked, source.prefix.map(look, looked), strict=True):
        if found:
            files.keys.append(key)
        elif reason:
            raise InvalidDataset(printable(f"{key}: {reason}; export it again, or remove it."))
        else:
            others.append(key)
    if files.keys:
        files.notices += other_files(others, "JSON", "COCO")
    if len(visible) > len(looked):
        number = len(visible) - len(looked)
        files.notices.append(
            f"{number:,} of {len(visible):,} JSON files were not looked into: {MOST_FILES} at most are."
        )
    if len(visible) < len(every):
        hidden = next(key for key in every if is_hidden(key))
        files.notices.append(f"{len(every) - len(visible):,} hidden JSON files are passed over ({hidden}).")
    if not files.keys:
        instead = f", only {named(others)}" if others else ""
        raise DatasetNotFound(
            f"{source.prefix.uri}: no JSON file with images, annotations and categories lies there{instead}; "
            "correct the URI, or export the dataset as COCO."
        )
    return files


def for_task(source: Source, files: Files) -> Files:
    """The files that the source's task reads: for pose those with keypoints, else those without, or all where all have them.

    Raises:
        InvalidConfig: If no file is of the task.
        DatasetNotFound: If a file is gone.
    """
    if len(files.keys) == 1 and source.task != "pose":
        return files  # without looking through it
    posed = []
    for key in files.keys:
        with mapped(source.local(key)) as data:
            if has_keypoints(data):
                posed.append(key)
        source.alive()
    others = [key for key in files.keys if key not in posed]
    if source.task == "pose":
        if not posed:
            raise InvalidConfig(
                f"{source.prefix.uri}: no annotation of {named(files.keys)} has keypoints, which --task pose reads; "
                "choose --task detection, or export the keypoints too."
            )
        chosen, left_out, reason = posed, others, "without keypoints"
    else:
        chosen, left_out, reason = others or posed, posed if others else [], "with keypoints, for --task pose"
    notices = [f"{named(left_out)}: passed over ({reason})."] if left_out else []
    return Files(chosen, files.notices + notices)


def folder_of_images(listed: pa.ChunkedArray, file: str, words: Sequence[str], names: Sequence[str]) -> str:
    """The folder that holds most of a file's first names, with its slash; of those with equally many the first.

    Args:
        listed: The keys of the dataset.
        file: The file's key.
        words: The word for its split as it is written, with and without digits behind it; empty without one.
        names: The images' names in it.
    """
    templates = ("{}/", "images/{}/", "images/", "{}/images/", "data/", "")
    folders = [form.format(word) for form in templates for word in (words if "{" in form else ("",))]
    candidates = list(dict.fromkeys([*folders, file[: file.rfind("/") + 1]]))
    first = names[:_NAMES]
    keys = pa.array([folder + name for folder in candidates for name in first], pa.string())
    exist = np.asarray(pc.is_in(keys, value_set=listed)).reshape(len(candidates), len(first))
    return candidates[int(exist.sum(axis=1).argmax())]
