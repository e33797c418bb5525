"""Paired timings of a large dataset, each way in a process of its own, with the memory that a pod's limit can't reclaim.

BENCH_IMAGES is the number of images (1,000,000 for the figures of docs/benchmarks.md), each with seven boxes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "20000"))
BOXES, CLASSES = 7, 80

#: Runs one way, and prints its seconds and the peak of RssAnon in MiB.
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
began = time.perf_counter()
{work}
print(time.perf_counter() - began, max(peak, anonymous()))
"""

#: The floor: the whole file decoded once into structs, with nothing made of them.
DECODE = {
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

READ = {
    "prepare": """
from pathlib import Path
from visionloop.core.storage import open_prefix
from visionloop.data import annotations, formats
from visionloop.data.annotations import parquet
import visionloop.data.formats.dice.reader

path = Path(sys.argv[1])
source = formats.Source(open_prefix(str(path.parent), "dataset"), path.parent / "work")
""",
    "work": "read = formats.reader('dice')(source).sorted()",
}

HASHED = READ | {
    "work": f"{READ['work']}\nannotations.dataset_hash(read, annotations.digests(read))\nparquet.encode(read)"
}

LABELS = """
labels = {f"labels/train/{number:07d}.txt": "0 0.5 0.5 0.25 0.25\\n" * 7 for number in range(int(sys.argv[2]))}
from pathlib import Path
import io, tarfile
from visionloop.components.convert.archive import write_archive
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICE file with boxes of two decimals."""
    path = tmp_path_factory.mktemp("large") / "annotations_detection.json"
    chance = random.Random(1)
    with path.open("w") as file:
        file.write('{"format_version":"1.0","task_type":"detection","dataset_id":"1","dataset_name":"n","images":[')
        for number in range(IMAGES):
            labels = ",".join(
                f'{{"id":{number * BOXES + index},"image_id":{number},"class_id":{chance.randrange(CLASSES)},'
                f'"bbox":[{chance.random() * 900:.2f},{chance.random() * 500:.2f},{1 + chance.random() * 300:.2f},'
                f'{1 + chance.random() * 200:.2f}],"iscrowd":0}}'
                for index in range(BOXES)
            )
            file.write(
                f'{"," if number else ""}{{"id":{number},"file_name":"{number // 1000:03d}/{number:07d}.jpg","width":1280,'
                f'"height":720,"split":"train","annotations":[{labels}]}}'
            )
        classes = ",".join(f'{{"id":{number},"name":"class {number}"}}' for number in range(CLASSES))
        file.write(f'],"classes":[{classes}]}}')
    return path


def measure(way: dict[str, str], path: Path) -> tuple[float, float]:
    """Seconds and MiB of one way."""
    code = MEASURED.format(**way)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(IMAGES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds, mebibytes = map(float, done.stdout.split())
    return seconds, mebibytes


@pytest.mark.parametrize(
    ("name", "first", "other"),
    [
        ("DICE: one bare decode, read into the canonical annotations", DECODE, READ),
        ("DICE: one bare decode, read, hashed and written as Parquet", DECODE, HASHED),
        ("labels into a tar: the standard library, a stream", LIBRARY, STREAM),
    ],
)
def test_a_large_dataset(
    name: str, first: dict[str, str], other: dict[str, str], dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints the medians of both ways, their ratio, and the peak memory of each."""
    pairs = [(measure(first, dataset), measure(other, dataset)) for _ in range(ROUNDS)]
    seconds = [sorted(pair[way][0] for pair in pairs)[len(pairs) // 2] for way in (0, 1)]
    peaks = [max(pair[way][1] for pair in pairs) for way in (0, 1)]
    with capsys.disabled():
        print(
            f"\n{IMAGES:,} images, {name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s; {seconds[1] / seconds[0]:.2f} times"
        )
        print(f"  peak of RssAnon: {peaks[0]:.0f} MiB, {peaks[1]:.0f} MiB")
