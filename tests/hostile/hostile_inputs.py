"""Small datasets that are wrong, hostile or only odd, by kind. Each is a sound dataset of four pictures with one thing changed."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Writes a dataset into a folder that does not exist yet.
Write = Callable[[Path], None]

SIDE = (48, 32)
PIXELS = np.random.default_rng(0).integers(0, 255, (SIDE[1], SIDE[0], 3), np.uint8)
RGB = Image.fromarray(PIXELS)


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def sound() -> dict[str, Any]:
    """The annotations of four pictures, ``0.png`` to ``3.png``."""
    images = [
        {
            "id": number,
            "file_name": f"{number}.png",
            "width": SIDE[0],
            "height": SIDE[1],
            "split": split,
            "annotations": [{"id": number, "class_id": 0, "bbox": [4, 4, 10, 8]}],
        }
        for number, split in enumerate(("train", "train", "val", "test"))
    ]
    return {
        "format_version": "1.0",
        "dataset_id": "1",
        "dataset_name": "n",
        "task_type": "object_detection",
        "classes": [{"id": 0, "name": "thing"}],
        "images": images,
    }


def write(folder: Path, document: Any = None, files: dict[str, bytes] | None = None) -> None:
    """Writes a dataset: the annotations, or their bytes as they are, and the files that differ from the sound ones."""
    (folder / "images").mkdir(parents=True)
    for number in range(4):
        (folder / "images" / f"{number}.png").write_bytes(encoded(RGB.rotate(number), "PNG"))
    text = document if isinstance(document, bytes) else json.dumps(sound() if document is None else document).encode()
    (folder / "annotations_detection.json").write_bytes(text)
    for name, data in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def changed(change: Callable[[dict[str, Any]], Any]) -> Write:
    """A dataset whose annotations were changed."""

    def made(folder: Path) -> None:
        document = sound()
        other = change(document)
        write(folder, document if other is None else other)

    return made


def top(name: str, value: Any) -> Write:
    """One field of the file."""
    return changed(lambda document: document.update({name: value}))


def first_image(name: str, value: Any) -> Write:
    """One field of the first image."""
    return changed(lambda document: document["images"][0].update({name: value}))


def first_label(name: str, value: Any) -> Write:
    """One field of the first label."""
    return changed(lambda document: document["images"][0]["annotations"][0].update({name: value}))


def first_class(name: str, value: Any) -> Write:
    """One field of the class."""
    return changed(lambda document: document["classes"][0].update({name: value}))


def raw(data: bytes) -> Write:
    """The annotation file's bytes."""
    return lambda folder: write(folder, data)


def picture(data: bytes, name: str = "0.png") -> Write:
    """The first picture's bytes."""

    def made(folder: Path) -> None:
        document = sound()
        document["images"][0]["file_name"] = name
        write(folder, document, {f"images/{name}": data})

    return made


def metadata(data: bytes) -> Write:
    """A ``metadata.json`` next to the annotations."""
    return lambda folder: write(folder, None, {"metadata.json": data})


def beside(make: Callable[[Path], Any]) -> Write:
    """Something more in the folder of the pictures."""

    def made(folder: Path) -> None:
        write(folder)
        make(folder / "images")

    return made


def instead(make: Callable[[Path], Any]) -> Write:
    """Something in place of the first picture."""

    def made(folder: Path) -> None:
        write(folder)
        (folder / "images" / "0.png").unlink()
        make(folder / "images" / "0.png")

    return made


def files(content: dict[str, bytes]) -> Write:
    """A folder with these files and nothing else."""

    def made(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, data in content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    return made


def folder_named(name: str) -> Write:
    """A folder where a file of the dataset should be."""

    def made(folder: Path) -> None:
        files({"images/0.png": b""})(folder)
        (folder / name).mkdir()

    return made


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def turned(orientation: int, *, displayed: bool) -> Write:
    """A photograph with an EXIF orientation, annotated as it is shown or as it is stored."""

    def made(folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        document = sound()
        size = SIDE[::-1] if displayed and orientation >= 5 else SIDE
        document["images"][0] |= {"file_name": "0.jpg", "width": size[0], "height": size[1]}
        write(folder, document, {"images/0.jpg": encoded(RGB, "JPEG", exif=exif)})

    return made


def flipped(data: bytes, seed: int) -> bytes:
    """The bytes with five of them changed, none of the first eight."""
    generator, changed_bytes = random.Random(seed), bytearray(data)
    for _ in range(5):
        changed_bytes[generator.randrange(8, len(data))] ^= 1 << generator.randrange(8)
    return bytes(changed_bytes)


def socket_at(path: Path) -> None:
    """A socket that nobody answers."""
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def archive() -> bytes:
    """A ZIP of a dataset."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("annotations_detection.json", json.dumps(sound()))
    return buffer.getvalue()


FORMATS = {kind: encoded(RGB, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")}
NUMBERS = [-1, 0.5, 1e9, 1e308, -1e308, 10**400, "1", "", None, True, [], {}, [1, [2]], "NaN"]
TEXTS = {
    "control": "a\x1b[31m\x07b", "direction": "a\u202eb", "markup": "<script>alert(1)</script>", "template": "{{ 7*7 }} ${x} %s",
    "markdown": "[a](javascript:alert(1)) | `b`", "quotes": "a'\"\\b", "line": "a\nb\r\nc", "space": "  ", "zero": "\u200b",
    "long": "x" * 100_000, "emoji": "👩‍👩‍👧", "surrogate": "\ud800", "composed": "e\u0301", "yaml": "- &a [*a]: !!python/object:os.system",
}  # fmt: skip


def options() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every hostile option of snapshot on a sound dataset: its kind, its name and its value by the stage's argument."""
    deep = "(" * 10_000 + "width > 1" + ")" * 10_000
    for name, text in {
        "call": "open('/etc/passwd')", "import": "__import__('os').system('touch /tmp/ran')", "chain": "().__class__.__mro__[1].__subclasses__() == 1",
        "parentheses": deep, "300 parentheses": "(" * 300 + "width > 1" + ")" * 300, "not": "not " * 900 + "iscrowd", "minus": "-" * 3900 + "1 < width",
        "chain of or": " or ".join(["width > 1"] * 300), "power": "9**9**9 > width", "text of a gigabyte": "'a' * 10**9 in file_name", "digits": f"width < {'9' * 3900}",
        "loop": "[x for x in iter(int, 1)] == 1", "lambda": "(lambda: 0)() == width", "format": "f'{exit()}' == split", "assignment": "(width := 1) == 1", "zero": "width > 1\0",
        "surrogate": "split == '\\ud800'", "half a character": "split == '\ud800'", "infinity": "width < 1e999", "None": "width == None", "empty": " ", "comment": "# a", "lines": "width > 1\nand\nwidth > 2",
        "other letters": "ｗｉｄｔｈ > 1", "unknown": "colour == 'red'", "value of no image": "metadata.source == 'night'", "text and number": "width == 'a'", "person": "metadata.labeled_by == 'x'",
        "keeps nothing": "width < 0", "markup": "split == '<script>alert(1)</script>'", "terminal": "split == '\x1b[31m'",
    }.items():  # fmt: skip
        yield "an expression of what counts", name, {"where": text}
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
    )
    for name, text in {
        "unknown class": '{"drop": ["nothing"]}', "drops all": '{"drop": ["thing"]}', "keeps none": '{"keep": []}', "list": "{}[]", "deep JSON": '{"drop":' + "[" * 100_000,
        "deep YAML": "drop: " + "[" * 5000, "bomb": bomb, "object": "drop: !!python/object/apply:os.system ['touch /tmp/ran']", "twice": '{"rename": {"thing": "a", "thing": "b"}}',
        "kinds": '{"drop": [1, null, true]}', "rename to nothing": '{"rename": {"thing": ""}}', "rename to a control": '{"rename": {"thing": "a\\u001b[31m"}}', "surrogate": '{"rename": {"thing": "\\ud800"}}',
        "long": '{"rename": {"thing": "' + "x" * 5000 + '"}}', "many": '{"drop": [' + ",".join(f'"{n}"' for n in range(50_000)) + "]}", "device": "/dev/zero", "folder": "/etc", "memory": "/proc/self/mem",
        "nowhere": "/nowhere.yaml", "other store": "ftp://host/a.yaml", "markup": '{"rename": {"thing": "<b>x</b>"}}', "zero": "drop: [a\0]", "bytes": '{"drop": ["\udcff"]}',
    }.items():  # fmt: skip
        yield "a mapping of classes", name, {"classes": text}
    halves = "train=0.4,val=0.3,test=0.3"
    for name, text in {
        "never ends": f"{halves},group=regex:^(([a-z0-9.])+.)+$", "nested": f"{halves},group=regex:((.?){{30}}){{30}}", "open": f"{halves},group=regex:(", "look ahead": f"{halves},group=regex:(?=0)",
        "large": f"{halves},group=regex:((a{{999}}){{999}}){{999}}", "long pattern": f"{halves},group=regex:{'a|' * 9000}", "no match": f"{halves},group=regex:x", "no folder": f"{halves},group=folder",
        "half a character": f"{halves},group=regex:\ud800", "fold 0": "fold=0/5", "fold 6": "fold=6/5", "folds": "fold=1/999999", "digits": f"fold=1/{'9' * 5000}", "two folds": "fold=1/2", "fold and fractions": f"fold=1/5,{halves}",
        "no date": "time=taken,val=soon,test=later", "dates turned": "time=taken,val=2026-02-01,test=2026-01-01", "last day": "time=taken,val=2026-01-01,test=9999-12-31T23:59:59-23:59", "no field": "time=taken,val=2026-01-01,test=2026-02-01",
        "terminal": "time=\x1b[31m,val=2026-01-01,test=2026-02-01",
    }.items():  # fmt: skip
        yield "a split", name, {"split": text}


def kinds() -> Iterator[tuple[str, str, Write]]:
    """Every input: its kind, its name and what writes it."""
    for part in (_pictures, _values, _documents, _special_files, _foreign):
        yield from part()


def _pictures() -> Iterator[tuple[str, str, Write]]:
    """Files where pictures should be."""
    for kind, data in FORMATS.items():
        name = kind.lower()
        yield "a picture of another accepted format", name, picture(data)
        for percent in range(5, 100, 12):
            yield f"a {kind} that was cut off", f"{percent} %", picture(data[: len(data) * percent // 100])
        for seed in range(6):
            yield f"a {kind} with flipped bits", str(seed), picture(flipped(data, seed))
        yield "bytes behind a picture", name, picture(data + b"maker's notes\n" * 9)
    for kind, more in (
        ("GIF", {}), ("PPM", {}), ("TGA", {}), ("ICO", {"sizes": [(48, 32)]}), ("JPEG2000", {}), ("AVIF", {}), ("DDS", {}), ("PDF", {}), ("EPS", {}),
    ):  # fmt: skip
        yield "a picture of a format that is not read", kind, picture(encoded(RGB, kind, **more))
    for name, start in {
        "HEIC": b"\0\0\0\x18ftypheic", "PSD": b"8BPS\0\1", "EXR": b"v/1\1", "JXL": b"\xff\x0a", "page": b"<!DOCTYPE html><html>", "SVG": b"<svg xmlns=''>",
        "ELF": b"\x7fELF", "ZIP": b"PK\3\4", "MP4": b"\0\0\0\x18ftypisom", "text": b"hello\n", "script": b"#!/bin/sh\ntouch /tmp/ran\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/ran) (w) file\n", "nothing": b"", "zeros": b"\0" * 5000,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    }.items():  # fmt: skip
        yield "a file that is not a picture", name, picture(start + b"\0" * (0 if name == "nothing" else 64))
    for size in (
        (0, 9),
        (9, 0),
        (1, 2**31 - 1),
        (2**31 - 1, 2**31 - 1),
        (20_000, 20_000),
        (65_535, 65_535),
        (178_956_971, 1),
    ):
        yield "a picture that claims a size", f"{size[0]} × {size[1]}", picture(png_of(*size))
    for orientation in range(9):
        yield "a photograph annotated as it is shown", str(orientation), turned(orientation, displayed=True)
        yield "a photograph annotated as it is stored", str(orientation), turned(orientation, displayed=False)
    deep = Image.fromarray((PIXELS[..., 0].astype(np.uint16)) << 4)
    for name, image in {
        "16": deep,
        "float": Image.new("F", SIDE),
        "32": Image.new("I", SIDE),
        "bits": RGB.convert("1"),
    }.items():
        yield "a picture of another depth", name, picture(encoded(image, "TIFF"), "0.tif")
    for kind, name in (("TIFF", "0.tif"), ("WEBP", "0.webp"), ("PNG", "0.png"), ("MPO", "0.jpg"), ("GIF", "0.gif")):
        several = encoded(RGB, kind, save_all=True, append_images=[Image.new("RGB", SIDE, "red")] * 2)
        yield "a file of several pictures", kind, picture(several, name)


def _values() -> Iterator[tuple[str, str, Write]]:
    """Values of the annotations."""
    for number, value in enumerate(NUMBERS):
        name = f"{number}"
        yield "a coordinate", name, first_label("bbox", [value, 4, 10, 8])
        yield "a side of a box", name, first_label("bbox", [4, 4, value, 8])
        yield "a whole box", name, first_label("bbox", value)
        yield "a width of an image", name, first_image("width", value)
        yield "an id of a class", name, first_class("id", value)
        yield "a class of a label", name, first_label("class_id", value)
        yield "a crowd mark", name, first_label("iscrowd", value)
        yield "a version of the format", name, top("format_version", value)
        yield "a list of images", name, top("images", value)
        yield "a list of classes", name, top("classes", value)
        yield "a list of labels", name, first_image("annotations", value)
        yield "a split", name, first_image("split", value)
        yield "attributes", name, first_label("attributes", {"a": value})
    for name, text in TEXTS.items():
        yield "a name of a class", name, first_class("name", text)
        yield "a name of a dataset", name, top("dataset_name", text)
        yield "a name of a file", name, first_image("file_name", f"{text}.png")
    for name in ("../0.png", "/etc/passwd", "..\\0.png", "a//0.png", "./0.png", "", ".", "0.png/", "images/0.png", "CON", "0.PNG", "%2e%2e/0.png", "file:///0.png",
                 "s3://bucket/0.png", "x" * 300 + ".png", "a/" * 600 + "0.png", "1.png", "0.png\0.jpg", "~/0.png"):  # fmt: skip
        yield "a path of an image", ascii(name)[:30], first_image("file_name", name)
    for name in ("format_version", "task_type", "classes", "images", "dataset_id"):
        yield "a field that is missing", name, changed(lambda document, name=name: document.pop(name) and None)  # type: ignore[misc]


def _documents() -> Iterator[tuple[str, str, Write]]:
    """Bytes of the annotation file and the metadata."""
    text = json.dumps(sound())
    for name, data in {
        "empty": b"", "null": b"null", "list": b"[]", "text": b'"a"', "cut": text[:-40].encode(), "order mark": b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": text.encode("utf-16"), "latin-1": text.replace("thing", "d\xefng").encode("latin-1"), "comma": text[:-1].encode() + b",}", "NaN": text.replace("10", "NaN").encode(),
        "comment": b"// a\n" + text.encode(), "twice": text.encode() * 2, "zeros": b"\0" * 1000, "page": b"<html></html>", "lines": text.encode().replace(b",", b",\r\n"),
    }.items():  # fmt: skip
        yield "bytes of the annotation file", name, raw(data)
    for name, data in {
        "[": b"[" * 100_000,
        "{": b'{"a":' * 100_000,
        "field": text[:-1].encode() + b',"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}",
    }.items():
        yield "deep JSON", name, raw(data)
        yield "deep JSON of the metadata", name, metadata(data)
    for name, data in {"list": b"[]", "split": b'{"split_config": 7}', "fractions": b'{"split_config": {"train": 9}}', "bytes": b"\xff\xfe", "large": b" " * 17_000_000,
                       "empty": b"", "text": b"hello"}.items():  # fmt: skip
        yield "metadata", name, metadata(data)


def _special_files() -> Iterator[tuple[str, str, Write]]:
    """What is not a regular file, or lies where it should not."""
    yield "a pipe", "beside", beside(lambda images: os.mkfifo(images / "pipe.png"))
    yield "a pipe", "in place of a picture", instead(os.mkfifo)
    yield "a socket", "beside", beside(lambda images: socket_at(images / "s.png"))
    yield "a socket", "in place of a picture", instead(socket_at)
    for target in ("/dev/zero", "/dev/random", "/proc/self/mem", "/nowhere", "0.png", ".", "/etc/hostname"):
        yield "a link", f"to {target}", instead(lambda path, target=target: path.symlink_to(target))  # type: ignore[misc]
    yield "a link in a circle", "a folder", beside(lambda images: (images / "loop").symlink_to(images))
    yield "a link in a circle", "the root", beside(lambda images: (images / "up").symlink_to(images.parent.parent))
    yield "a folder in place of a picture", "empty", instead(lambda path: path.mkdir())
    for name in ("annotations_detection.json", "metadata.json"):
        yield "a folder in place of a file", name, folder_named(name)


def _foreign() -> Iterator[tuple[str, str, Write]]:
    """What other tools export."""
    coco = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    for name, content in {
        "COCO": {"instances_train.json": json.dumps(coco).encode()}, "COCO under DICE's name": {"annotations_detection.json": json.dumps({**coco, **sound(), "images": coco["images"]}).encode()},
        "YOLO": {"data.yaml": b"nc: 1\nnames: [a]\ntrain: images/train\n", "labels/train/0.txt": b"0 .5 .5 .1 .1\n"}, "VOC": {"Annotations/0.xml": b"<annotation><object/></annotation>"},
        "class folders": {"cat/0.png": FORMATS["PNG"], "dog/1.png": FORMATS["PNG"]}, "archive": {"dataset.zip": archive()}, "table": {"labels.csv": b"a,b\n1,2\n"},
        "pictures": {"0.png": FORMATS["PNG"]}, "nothing": {}, "hidden": {".DS_Store": b"\0"},
    }.items():  # fmt: skip
        yield "another kind of dataset", name, files(content)
