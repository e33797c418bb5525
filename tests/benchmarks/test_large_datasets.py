"""Paired timings of a large dataset, each way in a process of its own, with the memory that a pod's limit can't reclaim.

BENCH_IMAGES is the number of images (1,000,000 for the figures of docs/benchmarks.md), each with seven boxes.
"""

from __future__ import annotations

import io
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from small_datasets import stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.data import view
from visionloop.data.images import ImageCache

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "20000"))
BOXES, CLASSES = 7, 80

#: Runs one way, and prints the seconds that processors spent on it, which a busy machine changes least, and the peak of RssAnon in MiB.
MEASURED = """
import sys, threading, time

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.01)

{prepare}
peak = anonymous()
threading.Thread(target=watch, daemon=True).start()
began = time.process_time()
{work}
print(time.process_time() - began, max(peak, anonymous()))
"""

#: The floor of DICE: the whole file decoded once into structs, with nothing made of them.
DECODE_DICE = {
    "prepare": """
import msgspec

class Label(msgspec.Struct, gc=False):
    class_id: int
    bbox: tuple[float, float, float, float]

class Picture(msgspec.Struct, gc=False):
    file_name: str
    width: int
    height: int
    split: str
    annotations: list[Label]

class Document(msgspec.Struct, gc=False):
    images: list[Picture]
""",
    "work": "document = msgspec.json.decode(open(sys.argv[1], 'rb').read(), type=Document)",
}

#: The floor of COCO.
DECODE_COCO = {
    "prepare": """
import msgspec

class Picture(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int
    height: int

class Label(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]

class Document(msgspec.Struct, gc=False):
    images: list[Picture]
    annotations: list[Label]
""",
    "work": "document = msgspec.json.decode(open(sys.argv[1], 'rb').read(), type=Document)",
}

SOURCE = """
import importlib
from pathlib import Path
import pyarrow as pa
from visionloop.core.storage import open_prefix
from visionloop.data import formats
from visionloop.data.annotations import parquet
from visionloop.data.annotations.content import dataset_hash, digests

path = Path(sys.argv[1])
name = path.parent.name
source = formats.Source(open_prefix(str(path.parent), "dataset"), path.parent / "work")
importlib.import_module(f"visionloop.data.formats.{name}.reader")
read = formats.reader(name)
pa.array([1])  # the first array imports pandas, where that is installed
"""

TABLES = SOURCE + "tables = read(source).sorted()\n"

READ = {"prepare": SOURCE, "work": "tables = read(source).sorted()"}
HASHED = {"prepare": TABLES, "work": "dataset_hash(tables, digests(tables))"}
WRITTEN = {"prepare": TABLES, "work": "parquet.encode(tables), parquet.encode_table(tables.images)"}

#: What snapshot does of it: images are declared by the store, each is digested, and all is written.
WHOLE = {
    "prepare": SOURCE,
    "work": """
tables = read(source).sorted()
sizes = pa.array(range(len(tables.images)), pa.int64())
content = digests(tables, pa.table({"size": sizes, "etag": sizes.cast(pa.string())}))
dataset_hash(tables, content)
parquet.encode(tables)
parquet.encode_table(tables.images.append_column("content", content))
""",
}

#: The floor of a listing: the folder walked once, with size and time of each file.
WALKED = {
    "prepare": """
import os

def walk(path, below):
    for entry in os.scandir(path):
        if entry.is_dir():
            walk(entry.path, f"{below}{entry.name}/")
        else:
            status = entry.stat()
            listed.append((below + entry.name, status.st_size, status.st_mtime_ns))
""",
    "work": "listed = []; walk(sys.argv[1], '')",
}

LISTED = {
    "prepare": """
from pathlib import Path
import pyarrow as pa
from visionloop.core.storage import open_prefix
from visionloop.data import formats

source = formats.Source(open_prefix(sys.argv[1], "dataset"), Path(sys.argv[1]))
pa.array([1])
""",
    "work": "objects = source.objects()",
}

LABELS = """
labels = {f"labels/train/{number:07d}.txt": "0 0.5 0.5 0.25 0.25\\n" * 7 for number in range(int(sys.argv[2]))}
from pathlib import Path
import io, tarfile
from visionloop.data.archive import write_archive
"""

LIBRARY = {
    "prepare": LABELS,
    "work": """
with tarfile.open(sys.argv[1] + ".tar", mode="w", format=tarfile.PAX_FORMAT) as archive:
    for name, text in sorted(labels.items()):
        entry = tarfile.TarInfo(name)
        data = text.encode()
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
""",
}

STREAM = {"prepare": LABELS, "work": "write_archive(Path(sys.argv[1] + '.tar'), labels.items())"}


#: Runs a stage on the receipts of a workspace, the start of the process included.
STAGE = """
from pathlib import Path
from visionloop.core import catalog
from visionloop.core.running import Invocation, run_stage

workspace = Path(sys.argv[1])
uris = {{path.parts[-3]: path.as_uri() for path in workspace.glob("*/*/receipt.json")}}
arguments = {arguments}
run_stage(catalog.stage("{name}"), arguments, Invocation(workspace.as_uri(), run="bench", force=True))
"""

#: All images of the bench are links to one, so they have the same bytes.
CHECKS = '{"same_bytes": "off"}'

VALIDATE = {
    "prepare": "",
    "work": STAGE.format(
        name="validate", arguments=f'{{"snapshot": uris["snapshot"], "mode": "annotations", "checks": {CHECKS!r}}}'
    ),
}
#: Boxes that are tiny, huge or twice there; and what is compared of two datasets, each profiled anew.
QUALITY = {
    "prepare": TABLES
    + """
from visionloop.data.annotations import presence, quality
from visionloop.data.annotations.codes import DEFAULTS
objects = presence.outcomes(tables)
""",
    "work": "quality.of_boxes(tables, objects, 640, DEFAULTS)",
}
DRIFT = {
    "prepare": TABLES + "from visionloop.data.annotations import drift\n",
    "work": "drift.compare(drift.profile(tables), drift.profile(tables))",
}

HASHES = """
import numpy as np
chance, images = np.random.default_rng(1), int(sys.argv[2])
hashes = chance.integers(0, 2**64, images, np.uint64)
like = chance.integers(0, images, images // 50)
hashes[chance.integers(0, images, images // 50)] = hashes[like] ^ (np.uint64(1) << chance.integers(0, 64, images // 50, np.uint64))
"""

#: The floor of near duplicates: the hashes sorted once by each of their four parts.
SORTED = {
    "prepare": HASHES,
    "work": "for part in range(4): np.sort(hashes >> np.uint64(16 * part) & np.uint64(65535), kind='stable')",
}
#: Eight of ten images are in train; one of fifty is like another one.
NEAR = {
    "prepare": HASHES
    + """
from visionloop.data.annotations.near import near_pairs
masks = chance.choice(np.array([1, 2, 4], np.uint8), images, p=[0.8, 0.1, 0.1])
""",
    "work": "near_pairs(hashes, np.arange(images), masks, 4)",
}

CONVERT = {
    "prepare": "",
    "work": STAGE.format(name="convert", arguments='{"snapshot": uris["snapshot"], "report": uris["validate"]}'),
}

#: Two snapshots compared, with all that the command prints, the start of the process included.
COMPARED = {
    "prepare": "",
    "work": """
from visionloop.components.snapshot.taken import every, snapshot_of
from visionloop.core.storage import open_prefix
from visionloop.core.texts import json_line
from visionloop.pipelines.snapshots.difference import as_json, difference

results = open_prefix(sys.argv[1], "results")
before, after = (snapshot_of(results, result.receipt.scalars["snapshot_id"]) for result in every(results))
compared = as_json(before, after, difference(before, after))
assert compared["images"]["labels"]["count"], compared
json_line(compared)
""",
}

#: The same boxes from COCO to YOLO by the library's own converter, the start of its process included.
LIBRARY_CONVERT = {
    "prepare": "",
    "work": """
import os, tempfile
from pathlib import Path
folder = tempfile.TemporaryDirectory()
os.environ.update(YOLO_CONFIG_DIR=folder.name, YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
out = sys.stdout
sys.stdout = sys.stderr
from ultralytics.data.converter import convert_coco
convert_coco(str(Path(sys.argv[1]).parent), save_dir=folder.name + "/labels", cls91to80=False)
sys.stdout = out
""",
}


#: The library's dataset of a view's train: from files by its own scan, or from convert's archive where that lies in the view.
DATASET = {
    "prepare": """
from visionloop.training.trainers.ultralytics.environment import library
out, sys.stdout = sys.stdout, sys.stderr
ultralytics = library()
names = dict.fromkeys(range(80), "")
arguments = dict(data=dict(names=names), augment=False, hyp=ultralytics.cfg.get_cfg())
""",
    "work": """
ultralytics.data.dataset.YOLODataset(img_path=sys.argv[1] + "/images/train", **arguments)
sys.stdout = out
""",
}


#: The view of a converted dataset whose images the cache has.
VIEW = """
import tempfile
from pathlib import Path
from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core import receipts
from visionloop.data.images import ImageCache

workspace = Path(sys.argv[1])
uris = {{path.parts[-3]: path.as_uri() for path in workspace.glob("*/*/receipt.json")}}
scratch = tempfile.TemporaryDirectory(dir=workspace.parent)
folder, cache = Path(scratch.name), ImageCache(workspace.parent / "cache")
converted = Converted(receipts.load(uris["convert"], "convert"))
snapshot = Snapshot(receipts.load(uris["snapshot"], "snapshot"))
converted.view(snapshot, folder, cache, ("train", "val"), checked=("test",), label_files=False)
assert cache.fetched == 0
{batch}
"""

#: The first batch of a view's train by trainer; in this process, whose processor time counts.
FIRST_BATCH = {
    "Ultralytics": {
        "prepare": DATASET["prepare"] + "import torch.utils.data\n",
        "work": VIEW.format(
            batch="""
dataset = ultralytics.data.dataset.YOLODataset(img_path=f"{folder}/images/train", batch_size=16, **arguments)
next(iter(torch.utils.data.DataLoader(dataset, 16, shuffle=True, collate_fn=dataset.collate_fn)))
sys.stdout = out
"""
        ),
    },
    "our own loop": {
        "prepare": "import torch.utils.data\nfrom visionloop.training.pytorch.objects.dataset import LabelledImages, collate\n",
        "work": VIEW.format(
            batch="""
dataset = LabelledImages(folder, "train", "detection", 640)
next(iter(torch.utils.data.DataLoader(dataset, 16, shuffle=True, collate_fn=collate)))
"""
        ),
    },
}


#: The canonical tables of a dataset whose images and objects have free values, made without a file.
SELECTED = """
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from visionloop.data.annotations.class_mapping import map_classes, parse_classes
from visionloop.data.annotations.classes import Class
from visionloop.data.annotations.filtered import keep
from visionloop.data.annotations.groups import groups_of
from visionloop.data.annotations.tables import Annotations, images_table, objects_table
from visionloop.data.annotations.where import parse_where

count, chance = int(sys.argv[2]), np.random.default_rng(0)
texts = pa.array([f'{{"camera":{number % 40},"source":"{("night", "day")[number % 2]}"}}' for number in range(400)] + [None])
images = images_table(
    file_name=pa.array([f"cam{number // 1000:04d}/{number:07d}.jpg" for number in range(count)]),
    key=pa.array([f"images/cam{number // 1000:04d}/{number:07d}.jpg" for number in range(count)]),
    width=np.full(count, 1280, np.int32),
    height=np.full(count, 720, np.int32),
    split=pa.array(["train", "val", "test", None]).take(pa.array(np.arange(count) % 4)),
    position=np.arange(count, dtype=np.int32),
    metadata=texts.take(pa.array(chance.integers(0, 401, count))),
)
total = 7 * count
objects = objects_table(
    image=np.repeat(np.arange(count, dtype=np.int32), 7),
    position=np.tile(np.arange(7, dtype=np.int32), count),
    class_id=chance.integers(0, 80, total, np.int32),
    **{name: chance.integers(100, 40_000, total, np.int32) for name in ("x", "y", "width", "height")},
    attributes=pa.array(['{"occluded":true}', '{"occluded":false}', None]).take(pa.array(chance.integers(0, 3, total))),
)
classes = tuple(Class(id=number, name=f"class {number}") for number in range(80))
read = Annotations("dice", "detection", "annotations_detection.json", classes, images, objects)
"""

#: What is selected, and how.
SELECTIONS = {
    "one column of images": """keep(read, parse_where("split != 'train'"))""",
    "metadata of images": """keep(read, parse_where("split != 'train' or metadata.source == 'night'"))""",
    "boxes": "keep(read, parse_where('box_width >= 8 and box_height >= 8'))",
    "classes and attributes": """keep(read, parse_where("class_name in ('class 3', 'class 4') or not attributes.occluded"))""",
    "classes merged, ignored and dropped": """map_classes(read, parse_classes('{"ignore": ["class 1"], "drop": ["class 2"], "rename": {"class 4": "class 3"}}'))""",
    "groups by folder": "groups_of(read, 'folder')",
    "groups by a pattern": "groups_of(read, 'regex:^cam([0-9]+)/')",
}

#: The floor: one comparison of a plain column as pyarrow does it, and its rows taken.
FILTERED = {"prepare": SELECTED, "work": "read.images.filter(pc.not_equal(read.images['split'], 'train'))"}


def test_selecting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What choosing images, objects and classes of a large dataset takes, compared with one bare filter of its images."""
    ways = {"one bare filter": FILTERED} | {
        name: {"prepare": SELECTED, "work": work} for name, work in SELECTIONS.items()
    }
    rounds = [{way: measure(code, tmp_path) for way, code in ways.items()} for _ in range(ROUNDS)]
    with capsys.disabled():
        print(f"\n{IMAGES:,} images with {BOXES} boxes each, what is selected")
        for way in ways:
            seconds = statistics.median(each[way][0] for each in rounds)
            peak = max(each[way][1] for each in rounds)
            print(f"  {way:<36} {seconds:7.2f} s  peak of RssAnon {peak:6,.0f} MiB")


def boxes() -> Iterator[tuple[int, str]]:
    """Class and box of objects without end, with two decimals."""
    chance = random.Random(1)
    while True:
        x, y, width, height = (chance.random() * side for side in (900, 500, 300, 200))
        yield chance.randrange(CLASSES), f"[{x:.2f},{y:.2f},{1 + width:.2f},{1 + height:.2f}]"


def named(number: int) -> str:
    """The fields of an image in both formats."""
    return f'"id":{number},"file_name":"{number // 1000:03d}/{number:07d}.jpg","width":1280,"height":720'


def classes() -> str:
    """The classes in both formats."""
    return ",".join(f'{{"id":{number},"name":"class {number}"}}' for number in range(CLASSES))


@pytest.fixture(scope="module")
def dice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICE file."""
    path = tmp_path_factory.mktemp("large") / "dice" / "annotations_detection.json"
    path.parent.mkdir()
    objects = boxes()
    with path.open("w") as file:
        file.write('{"format_version":"1.0","task_type":"detection","dataset_id":"1","dataset_name":"n","images":[')
        for number in range(IMAGES):
            labels = ",".join(
                f'{{"id":{number * BOXES + index},"image_id":{number},"class_id":{class_id},"bbox":{box},"iscrowd":0}}'
                for index, (class_id, box) in zip(range(BOXES), objects, strict=False)
            )
            file.write(f'{"," if number else ""}{{{named(number)},"split":"train","annotations":[{labels}]}}')
        file.write(f'],"classes":[{classes()}]}}')
    return path


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of the same images and objects."""
    path = tmp_path_factory.mktemp("large") / "coco" / "instances_train.json"
    path.parent.mkdir()
    objects = boxes()
    with path.open("w") as file:
        file.write(f'{{"categories":[{classes()}],"images":[')
        for number in range(IMAGES):
            file.write(f"{',' if number else ''}{{{named(number)}}}")
        file.write('],"annotations":[')
        for number, (class_id, box) in zip(range(IMAGES * BOXES), objects, strict=False):
            file.write(
                f'{"," if number else ""}{{"id":{number},"image_id":{number // BOXES},"category_id":{class_id},'
                f'"bbox":{box},"iscrowd":0}}'
            )
        file.write("]}")
    return path


def measure(way: dict[str, str], path: Path) -> tuple[float, float]:
    """Processor seconds and MiB of one way."""
    code = MEASURED.format(**way)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(IMAGES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds, mebibytes = map(float, done.stdout.split())
    return seconds, mebibytes


WAYS = {"read": READ, "hashed": HASHED, "written": WRITTEN, "all of it": WHOLE}


@pytest.mark.parametrize(("name", "decode"), [("dice", DECODE_DICE), ("coco", DECODE_COCO)])
def test_annotations_of_a_large_dataset(
    name: str, decode: dict[str, str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the medians of one bare decode and of each part of a snapshot's work, with their ratio and peak memory."""
    path: Path = request.getfixturevalue(name)
    ways = {"one bare decode": decode, **WAYS}
    rounds = [{way: measure(code, path) for way, code in ways.items()} for _ in range(ROUNDS)]
    floor = statistics.median(each["one bare decode"][0] for each in rounds)
    with capsys.disabled():
        print(f"\n{IMAGES:,} images with {BOXES} boxes each in {name.upper()}, {path.stat().st_size / 1e6:,.0f} MB")
        for way in ways:
            seconds = statistics.median(each[way][0] for each in rounds)
            peak = max(each[way][1] for each in rounds)
            print(f"  {way:<16} {seconds:7.2f} s  {seconds / floor:5.2f} times  peak of RssAnon {peak:6,.0f} MiB")


#: Below the most links that a file has on ext4.
LINKS = 60_000


@pytest.fixture(scope="module")
def frozen(dice: Path) -> Path:
    """A workspace with the snapshot of a DICE dataset, whose images are links to few files, and its validation."""
    for number in range(IMAGES):
        path = dice.parent / "images" / f"{number // 1000:03d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS == 0:
            first = path
            Image.new("RGB", (1280, 720)).save(first)
        else:
            os.link(first, path)
    workspace = dice.parent.parent / "workspace"
    rule = "train=0.8,val=0.1,test=0.1"
    snapshot = stage("snapshot", workspace, dataset=str(dice.parent), split=rule)
    stage("validate", workspace, snapshot=snapshot.uri, mode="annotations", checks=CHECKS)
    return workspace


@pytest.fixture(scope="module")
def distinct(dice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a converted dataset whose images differ in their bytes, and beside it a cache that has them all."""
    folder = tmp_path_factory.mktemp("distinct")
    picture = io.BytesIO()
    Image.new("RGB", (64, 36)).save(picture, "JPEG")
    (folder / "dice" / "images").mkdir(parents=True)
    (folder / "dice" / dice.name).symlink_to(dice)
    for number in range(IMAGES):
        path = folder / "dice" / "images" / f"{number // 1000:03d}" / f"{number:07d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture.getvalue() + b"%07d" % number)
    workspace = folder / "workspace"
    taken = stage("snapshot", workspace, dataset=str(folder / "dice"), split="train=0.8,val=0.1,test=0.1")
    report = stage("validate", workspace, snapshot=taken.uri, mode="annotations")
    stage("convert", workspace, snapshot=taken.uri, report=report.uri)
    snapshot, cache = Snapshot(taken), ImageCache(folder / "cache")
    for row in snapshot.rows:
        cache.fetch_picture(snapshot.open_images(), row)
    return workspace


def test_validating_annotations(frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mode that reads no image, with the dataset's annotations read again; against one bare decode."""
    show("images validated", "bare decode", DECODE_DICE, VALIDATE, frozen, capsys, dice_of(frozen))


def test_checking_boxes(dice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Close, tiny and huge boxes, compared with one bare decode of their file."""
    show("images with their boxes checked", "bare decode", DECODE_DICE, QUALITY, dice, capsys)


def test_drift(dice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two datasets profiled and compared, against one bare decode of one of them."""
    show("images compared with as many", "bare decode", DECODE_DICE, DRIFT, dice, capsys)


def test_near_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pairs of hashes that differ in at most four bits, compared with sorting the hashes."""
    show("hashes compared with each other", "four sorts", SORTED, NEAR, tmp_path, capsys)


def test_converting(frozen: Path, coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ultralytics' converter and convert, on the same boxes."""
    show("images converted", "Ultralytics", LIBRARY_CONVERT, CONVERT, frozen, capsys, coco)


def test_labels_of_a_training(frozen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scan of images and label files that the library makes at each start, compared with labels and sizes of convert and snapshot."""
    uris = {path.parts[-3]: path.as_uri() for path in frozen.glob("*/*/receipt.json")}
    converted = Converted(stage("convert", frozen, snapshot=uris["snapshot"], report=uris["validate"]))
    snapshot = Snapshot(receipts.load(uris["snapshot"], "snapshot"))
    for name in ("files", "archive"):
        converted.view(snapshot, tmp_path / name, ImageCache(tmp_path / "cache"), label_files=name == "files")
    (tmp_path / "files" / view.LABELS).unlink()
    show(
        "images' labels read (8 of 10)",
        "the library's scan",
        DATASET,
        DATASET,
        tmp_path / "archive",
        capsys,
        tmp_path / "files",
    )


@pytest.mark.parametrize("library", FIRST_BATCH)
def test_first_batch_of_a_warm_cache(
    library: str, distinct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From convert's receipt to the first batch, of images that the cache has and that were checked in this boot."""
    seconds, peak = measure(FIRST_BATCH[library], distinct)
    with capsys.disabled():
        print(f"\n{IMAGES:,} images, warm cache, {library}: first batch after {seconds:.1f} s, peak {peak:,.0f} MiB")


def test_comparing_two_snapshots(
    frozen: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snapshots of which one has other boxes of a class, and another split; against one bare decode."""
    first = dice_of(frozen)
    later = tmp_path_factory.mktemp("later") / "dice"
    later.mkdir()
    (later / "images").symlink_to(first.parent / "images")
    with first.open() as file, (later / first.name).open("w") as changed:
        while block := file.read(2**24):
            changed.write(block.replace('"class_id":7,', '"class_id":9,'))
    workspace = later.parent / "workspace"
    for dataset, seed in ((first.parent, 0), (later, 1)):
        stage("snapshot", workspace, dataset=str(dataset), split=f"train=0.8,val=0.1,test=0.1,seed={seed}")
    show("images compared", "bare decode", DECODE_DICE, COMPARED, workspace, capsys, first)


def dice_of(workspace: Path) -> Path:
    """The file that a workspace's snapshot was taken of."""
    return workspace.parent / "dice" / "annotations_detection.json"


def test_listing_a_large_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare walk, compared with the table of keys, sizes and ETags."""
    for number in range(IMAGES):
        path = tmp_path / f"{number // 1000:03d}" / f"{number:07d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    show("files listed", "bare walk", WALKED, LISTED, tmp_path, capsys)


def test_labels_into_a_tar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library, compared with a stream of its own headers."""
    show("label files into a tar", "standard library", LIBRARY, STREAM, tmp_path / "labels", capsys)


def show(
    what: str,
    name: str,
    floor: dict[str, str],
    ours: dict[str, str],
    path: Path,
    capsys: pytest.CaptureFixture[str],
    path_of_floor: Path | None = None,
) -> None:
    """Prints the medians of two ways, their ratio and the peak memory of each."""
    pairs = [(measure(floor, path_of_floor or path), measure(ours, path)) for _ in range(ROUNDS)]
    seconds = [statistics.median(pair[way][0] for pair in pairs) for way in (0, 1)]
    peaks = [max(pair[way][1] for pair in pairs) for way in (0, 1)]
    with capsys.disabled():
        print(f"\n{IMAGES:,} {what}: {name} {seconds[0]:.2f} s, visionloop {seconds[1]:.2f} s")
        print(f"  {seconds[1] / seconds[0]:.2f} times; peak of RssAnon {peaks[0]:.0f} MiB, {peaks[1]:.0f} MiB")
