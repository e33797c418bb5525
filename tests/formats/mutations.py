"""Valid datasets of every format, and ways to break one of their files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml
from hypothesis import strategies as st
from layouts import write
from PIL import Image

#: Width and height of each picture.
SIZE = (40, 20)

#: The pictures by the names of their splits.
NAMES = {"train": ("a", "b"), "val": ("c",), "test": ("d",)}

#: A box, an outline and keypoints of one object, in pixels.
BOX, OUTLINE, KEYPOINTS = [4, 4, 12, 8], [4, 4, 16, 4, 16, 12], [5, 5, 2, 9, 9, 2]
MASK = {"size": [20, 40], "counts": [84, 8, 12, 8, 12, 8, 668]}

#: What stands in a broken file in place of a path outside the dataset.
OUTSIDE = "{outside}"

#: Values that no field expects, and some that look like a field's own.
WRONG: tuple[Any, ...] = (
    *(None, "", " ", "x", "cat", "dog", True, 0, 1, 2, -1, 1.5, 3.0, 128.0, 1e308, -1e308, float("nan"), float("inf")),
    *(2**31, 2**63, -(10**30), [], {}, [[]], [[4, 4]], [1], {"x": 1}, {"size": [2, 2], "counts": [9]}, "a" * 5000),
    *("nan", "1_0", "０", "é\u0301\u202e", "\x00", "\ud800", "a/b", "a//b.png", "images/train/a.png", "C:\\a.png"),
    *("*", "**/*.png", "&lt;", "&a;"),
)

#: Paths that lead outside a dataset, or look so.
PATHS = (
    *("../outside/a.png", "images/../../outside/a.png", f"{OUTSIDE}/a.png", f"file://{OUTSIDE}/a.png", OUTSIDE),
    *("../outside", "./../outside/a.png", "/etc/passwd", "https://host/a.png", "s3://bucket/a.png"),
)

#: Nesting that no reader follows to its end.
DEEP = 100

#: Makes a choice: an index below a number.
Choose = Callable[[int], int]


def folder_of(name: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Writes a valid dataset of a format; returns its folder and the tasks that it is read for."""
    key, files, tasks = _FORMATS[name]
    for number, (split, stem) in enumerate((split, stem) for split, stems in NAMES.items() for stem in stems):
        path = folder / key.format(split=split, stem=stem, name=("cat", "dog")[number % 2])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (number * 60, 90, 0)).save(path)
    return write(folder, files()), tasks


def _dice() -> dict[str, Any]:
    label = {"class_id": 0, "class_name": "cat", "bbox": BOX, "area": 96, "iscrowd": 0, "attributes": {"age": [1]}}
    of_task = {
        "detection": label,
        "segmentation": label | {"segmentation": [OUTLINE]},
        "pose": label | {"keypoints": KEYPOINTS},
        "classification": {"class_id": 0},
    }
    classes = [
        {"id": 0, "name": "cat", "keypoints": ["left", "right"], "flip_pairs": [[0, 1]]},
        {"id": 3, "name": "dog"},
    ]
    return {
        f"annotations_{task}.json": {
            "format_version": "1.0",
            "task_type": task,
            "dataset_id": 7,
            "classes": classes,
            "statistics": {"total_images": 4, "class_distribution": {"cat": 4}},
            "images": [
                {
                    "id": number,
                    "file_name": f"{split}/{stem}.png",
                    "width": SIZE[0],
                    "height": SIZE[1],
                    "split": split,
                    "metadata": {"camera": 1},
                    "annotations": [entry],
                }
                for number, (split, stem) in enumerate(_images())
            ],
        }
        for task, entry in of_task.items()
    } | {"metadata.json": {"split_config": {"train": 0.5, "val": 0.25, "test": 0.25}}}


def _coco() -> dict[str, Any]:
    categories = [
        {"id": 1, "name": "cat", "keypoints": ["left", "right"], "skeleton": [[1, 2]]},
        {"id": 2, "name": "dog"},
    ]
    files = {}
    for split, stems in NAMES.items():
        images = [
            {"id": number, "file_name": f"{stem}.png", "width": SIZE[0], "height": SIZE[1]}
            for number, stem in enumerate(stems)
        ]
        labels = [
            {"id": number, "image_id": number, "category_id": 1, "bbox": BOX, "area": 96, "iscrowd": 0}
            | {"segmentation": [[OUTLINE], MASK][number % 2], "keypoints": KEYPOINTS, "num_keypoints": 2}
            for number in range(len(stems))
        ]
        files[f"annotations/instances_{split}.json"] = {
            "images": images,
            "annotations": labels,
            "categories": categories,
        }
    return files


def _yolo() -> dict[str, Any]:
    lines = "0 0.25 0.4 0.3 0.4\n1 0.5 0.5 0.25 0.5\n"
    labels = {f"labels/{split}/{stem}.txt": lines for split, stem in _images()}
    places = {"train": "images/train", "val": ["images/val"], "test": "test.txt"}
    description = {"path": ".", **places, "nc": 2, "names": {0: "cat", 1: "dog"}}
    return labels | {"data.yaml": yaml.safe_dump(description), "test.txt": "./images/test/d.png\n"}


def _yolo_pose() -> dict[str, Any]:
    labels = {f"labels/{split}/{stem}.txt": "0 0.25 0.4 0.3 0.4 0.2 0.3 2 0.3 0.4 2\n" for split, stem in _images()}
    places = {split: f"images/{split}" for split in NAMES}
    description = {**places, "names": ["cat"], "kpt_shape": [2, 3], "flip_idx": [1, 0], "kpt_names": {0: ["l", "r"]}}
    return labels | {"data.yaml": yaml.safe_dump(description)}


def _voc() -> dict[str, Any]:
    files: dict[str, Any] = {}
    for split, stem in _images():
        files[f"Annotations/{stem}.xml"] = (
            f"<annotation><folder>JPEGImages</folder><filename>{stem}.png</filename><size><width>40</width>"
            "<height>20</height><depth>3</depth></size><object><name>cat</name><pose>Left</pose><truncated>1</truncated>"
            "<difficult>0</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>16.0</xmax><ymax>12</ymax></bndbox>"
            "</object></annotation>"
        )
        files[f"ImageSets/Main/{split}.txt"] = "".join(f"{name}\n" for name in NAMES[split])
    return files


def _labelstudio() -> dict[str, Any]:
    def region(kind: str, **value: Any) -> dict[str, Any]:
        sides = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
        return {"id": kind, "from_name": "l", "type": kind, "value": value | {kind: ["cat"]}} | sides

    rectangle = region("rectanglelabels", x=10, y=20, width=30, height=40, rotation=15)
    polygon = region("polygonlabels", points=[[10, 20], [40, 20], [40, 60]])
    ellipse = region("ellipselabels", x=50, y=50, radiusX=10, radiusY=20, rotation=0)
    choice = region("choices")
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/0123abcd-{stem}.png", "site": "n"},
            "annotations": [{"id": 1, "was_cancelled": False, "result": [rectangle, polygon, ellipse, choice]}],
        }
        for number, (_, stem) in enumerate(_images())
    ]
    config = (
        '<View><Image name="i" value="$image"/><RectangleLabels name="l" toName="i"><Label value="cat"/>'
        '<Label value="dog"/></RectangleLabels><Choices name="c" toName="i"><Choice value="cat"/></Choices></View>'
    )
    return {"export.json": tasks, "config.xml": config}


def _cvat() -> dict[str, Any]:
    labels = (
        "<label><name>cat</name><color>#ff0000</color></label><label><name>person</name><type>skeleton</type></label>"
    )
    labels += "".join(
        f"<label><name>{side}</name><type>points</type><parent>person</parent></label>" for side in ("left", "right")
    )
    shapes = (
        '<box label="cat" occluded="0" xtl="4" ytl="4" xbr="16" ybr="12"><attribute name="age">old</attribute></box>'
        '<polygon label="cat" points="4,4;16,4;16,12"/><ellipse label="cat" cx="10" cy="10" rx="4" ry="3" rotation="5"/>'
        '<mask label="cat" rle="3, 4, 3" left="4" top="4" width="5" height="2"/>'
        '<skeleton label="person"><points label="left" outside="0" points="5,5"/>'
        '<points label="right" outside="0" points="9,9"/></skeleton>'
    )
    images = "".join(
        f'<image id="{number}" name="{stem}.png" subset="{split}" width="40" height="20">{shapes}</image>'
        for number, (split, stem) in enumerate(_images())
    )
    meta = f"<meta><task><name>pets</name><labels>{labels}</labels></task></meta>"
    return {"annotations.xml": f"<annotations><version>1.1</version>{meta}{images}</annotations>"}


def _images() -> list[tuple[str, str]]:
    return [(split, stem) for split, stems in NAMES.items() for stem in stems]


_TASKS = ("detection", "segmentation", "pose", "classification")

#: By name: the key of a picture, what makes the files, and the tasks that these are read for.
_FORMATS: Mapping[str, tuple[str, Callable[[], dict[str, Any]], tuple[str, ...]]] = {
    "dice": ("images/{split}/{stem}.png", _dice, _TASKS),
    "coco": ("images/{split}/{stem}.png", _coco, _TASKS[:3]),
    "yolo": ("images/{split}/{stem}.png", _yolo, _TASKS[:1]),
    "yolo_pose": ("images/{split}/{stem}.png", _yolo_pose, _TASKS[2:3]),
    "voc": ("JPEGImages/{stem}.png", _voc, _TASKS[:1]),
    "labelstudio": ("images/{stem}.png", _labelstudio, (*_TASKS[:2], _TASKS[3])),
    "cvat": ("images/{stem}.png", _cvat, _TASKS[:3]),
    "folders": ("{split}/{name}/{stem}.png", dict, _TASKS[3:]),
}

NAMES_OF_FORMATS = tuple(_FORMATS)


def spoil(folder: Path, outside: Path, draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """Breaks one file of a dataset; returns what was done."""

    def choose(number: int) -> int:
        return int(draw(st.integers(0, number - 1)))

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix.lower() != ".png"]
    # Mostly a file of annotations: what a picture can be is few things.
    path = texts[choose(len(texts))] if texts and choose(8) else files[choose(len(files))]
    ways = [_bytes, _file]
    ways += [_WAYS[path.suffix]] * 4 if path.suffix in _WAYS else []
    way = ways[choose(len(ways))]
    return f"{path.relative_to(folder)}: {way(path, folder, outside, choose)}"


def _bytes(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    """Cuts a file, or changes, removes or adds a few bytes."""
    data = path.read_bytes()
    at, length = choose(len(data) + 1), choose(4)
    put = [data[:0], b"\x00", b"\xff", b'"', b"{", b"]", b"<", b"-", b"9" * 30, b"\n", b"1e999", b"\xef\xbb\xbf"][
        choose(12)
    ]
    rest = data[at + length :] if choose(3) else b""
    path.write_bytes(data[:at] + put + rest)
    return f"from {at} on {length} bytes are {put!r}{'' if rest else ', and nothing follows'}"


def _file(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    """Removes, empties, doubles or renames a file."""
    way = choose(5)
    other = path.with_name(
        ["ä " + path.name, path.name.upper(), f"..{path.name}", f"x#1{path.name}", "a\nb.png"][choose(5)]
    )
    if way == 0:
        path.unlink()
        return "is gone"
    if way == 1:
        path.write_bytes(b"")
        return "is empty"
    if way == 2:
        other.write_bytes(path.read_bytes())
        return f"is also {other.name!r}"
    if way == 3:
        path.rename(other)
        return f"is called {other.name!r}"
    data = path.read_bytes()
    path.unlink()
    (path / "inner").mkdir(parents=True)
    (path / "inner" / path.name).write_bytes(data)
    return "is a folder"


def _json(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError):
        return _bytes(path, folder, outside, choose)  # it was broken before
    said = _tree([value], outside, choose)
    # A lone surrogate stays one in ASCII.
    path.write_text(json.dumps(value), encoding="utf-8")
    return said


def _yaml(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    try:
        value = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError):
        return _bytes(path, folder, outside, choose)
    said = _tree([value], outside, choose)
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    return said


def _tree(whole: list[Any], outside: Path, choose: Choose) -> str:
    """Changes one place in nested lists and mappings."""
    positions: list[tuple[Any, Any]] = []
    stack: list[Any] = [whole]
    while stack:
        holder = stack.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            if holder is not whole:
                positions.append((holder, key))
            if isinstance(holder[key], list | dict):
                stack.append(holder[key])
    if not positions:
        return "nothing"
    paths = [entry for entry in positions if _is_path(entry[0][entry[1]])]
    if paths and not choose(4):
        holder, key = paths[choose(len(paths))]
        holder[key] = _outside(outside, choose)
        return f"{key!r} is {holder[key]!r}"
    holder, key = positions[choose(len(positions))]
    way = choose(6)
    if way == 0:
        del holder[key]
        return f"without {key!r}"
    if way == 1:
        other, where = positions[choose(len(positions))]
        holder[key] = copy.deepcopy(other[where])
        return f"{key!r} is what {where!r} is"
    if way == 2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
        return f"[{key}] twice"
    if way == 3:
        for _ in range(DEEP if choose(2) else 1):
            holder[key] = [holder[key]] if choose(2) else {"x": holder[key]}
        return f"{key!r} is nested"
    holder[key] = _wrong(outside, choose)
    return f"{key!r} is {str(holder[key])[:40]!r}"


def _xml(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError):
        return _bytes(path, folder, outside, choose)
    elements = list(root.iter())
    paths = [element for element in elements if _is_path(element.text) or _is_path(element.get("name"))]
    if paths and not choose(4):
        element, value = paths[choose(len(paths))], _outside(outside, choose)
        if element.get("name"):
            element.set("name", value)
        else:
            element.text = value
        path.write_bytes(ElementTree.tostring(root))
        return f"a name is {value!r}"
    element = elements[choose(len(elements))]
    way, value = choose(6), str(_wrong(outside, choose))
    said = f"<{element.tag}> is {value[:40]!r}"
    if way == 0 and len(element):
        element.remove(element[choose(len(element))])
        said = f"<{element.tag}> lacks a child"
    elif way == 1 and len(element):
        element.append(copy.deepcopy(element[choose(len(element))]))
        said = f"<{element.tag}> has a child twice"
    elif way == 2:
        element.tag = ["object", "image", "box", "x", "label", "mask", "points", "name"][choose(8)]
        said = f"an element is <{element.tag}>"
    elif element.attrib and way < 5:
        key = sorted(element.attrib)[choose(len(element.attrib))]
        said = f"{key} of {said}"
        element.set(key, value)
    else:
        element.text = value
    path.write_bytes(ElementTree.tostring(root).decode("ascii").encode())
    return said


def _lines(path: Path, folder: Path, outside: Path, choose: Choose) -> str:
    """Changes one word of a list or of labels."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    number = choose(len(lines))
    words = lines[number].split() or [""]
    at, way = choose(len(words)), choose(5)
    if _is_path(words[at]) and choose(2):
        words[at] = _outside(outside, choose)
    elif way == 0:
        del words[at]
    elif way == 1:
        words.append(words[at])
    elif way == 2:
        lines.append(lines[number])
    else:
        words[at] = str(_wrong(outside, choose))
    lines[number] = " ".join(words)
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return f"line {number + 1} is {lines[number][:60]!r}"


def _is_path(value: object) -> bool:
    return isinstance(value, str) and (value.endswith((".png", ".txt")) or "images" in value)


def _outside(outside: Path, choose: Choose) -> str:
    return PATHS[choose(len(PATHS))].replace(OUTSIDE, str(outside))


def _wrong(outside: Path, choose: Choose) -> Any:
    number = choose(len(WRONG) + len(PATHS))
    return copy.deepcopy(WRONG[number]) if number < len(WRONG) else _outside(outside, choose)


_WAYS = {".json": _json, ".yaml": _yaml, ".xml": _xml, ".txt": _lines}
