"""Paired timings of what asks a real S3 for each image: one request an image, compared with the same requests made by the store's client alone.

BENCH_IMAGES is the number of images, BENCH_ROUNDS the number of pairs.
"""

from __future__ import annotations

import io
import os
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import laptop as machine
import obstore
import pytest
from laptop import Server
from PIL import Image
from small_datasets import stage

from visionloop.components.convert.converted import Converted
from visionloop.components.snapshot.kept import Kept
from visionloop.components.snapshot.manifest import Snapshot
from visionloop.core.storage import PARALLEL_TRANSFERS, Prefix
from visionloop.data import formats
from visionloop.data.images import HEADER_BYTES, ImageCache, inspect

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = int(os.environ.get("BENCH_IMAGES", "2000"))


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    """A picture of 1280 × 720 with some content."""
    data = io.BytesIO()
    Image.effect_noise((1280, 720), 20).convert("RGB").save(data, "JPEG", quality=60)
    return data.getvalue()


def filled(s3: Server, jpeg: bytes, name: str) -> Prefix:
    """A dataset in YOLO, or in folders of two classes."""
    prefix = machine.s3_prefix(s3, "datasets", f"bench-{uuid.uuid4().hex[:8]}", "dataset")
    files: dict[str, bytes] = {}
    for number in range(IMAGES):
        split, stem = ("train", "val")[number % 5 == 0], f"{number:07d}"
        files[f"images/{split}/{stem}.jpg" if name == "yolo" else f"{split}/{('a', 'b')[number % 2]}/{stem}.jpg"] = jpeg
        if name == "yolo":
            files[f"labels/{split}/{stem}.txt"] = b"0 0.5 0.5 0.25 0.25\n" * 7
    if name == "yolo":
        files["data.yaml"] = b"train: images/train\nval: images/val\nnames: [a]\n"
    # What is told apart by its bytes is not the store's: each picture ends with its own name.
    for _ in prefix.map(lambda key: prefix.write(key, files[key] + key.encode() * key.endswith(".jpg")), files):
        pass
    return prefix


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes, and those that processors spend on it in this process: the store is another one."""
    began, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - processor


def bare(place: Prefix, keys: Sequence[str]) -> None:
    """The same requests by the client alone, as many at once: the start of each picture, each label whole."""

    def ask(key: str) -> int:
        options: obstore.GetOptions = {"range": (0, HEADER_BYTES)} if key.endswith(".jpg") else {}
        return len(obstore.get(place.store, f"{place.path}/{key}", options=options).bytes())

    with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
        assert all(pool.map(ask, keys))


def tell(
    capsys: pytest.CaptureFixture[str],
    what: str,
    requests: int,
    pairs: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> None:
    """Prints the requests a second of both ways, by their medians, the ratio, and what the client spends on a request."""
    (theirs, their_processor), (ours, our_processor) = (
        [statistics.median(values) for values in zip(*way, strict=True)] for way in zip(*pairs, strict=True)
    )
    with capsys.disabled():
        print(f"\n{what}: {requests:,} requests, {len(pairs)} rounds")
        print(f"  obstore alone {requests / theirs:,.0f} a second, visionloop {requests / ours:,.0f} a second")
        print(f"  visionloop / obstore = {ours / theirs:.2f} of the time")
        microseconds = [1e6 * seconds / requests for seconds in (their_processor, our_processor)]
        print(f"  processor time of the client a request: {microseconds[0]:,.0f} µs and {microseconds[1]:,.0f} µs")


@pytest.mark.parametrize("name", ["yolo", "folders"])
def test_reading_a_dataset_in_a_store(
    name: str, s3: Server, s3_environment: Server, jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What snapshot reads: the start of each picture, and in YOLO each label. Then again with one image in a hundred changed."""
    prefix = filled(s3, jpeg, name)
    workspace = machine.s3_prefix(s3, "results", f"bench-{uuid.uuid4().hex[:8]}")
    keys = [info.key for info in prefix.objects() if info.key.endswith((".jpg", ".txt"))]
    pairs, again = [], []
    for number in range(ROUNDS + 1):
        theirs = timed(lambda: bare(prefix, keys))
        (tmp_path / str(number)).mkdir()
        workspace.delete([info.key for info in workspace.objects()])
        pairs.append((theirs, timed(lambda number=number: read(prefix, workspace, name, tmp_path / str(number)))))  # type: ignore[misc]
        changed = [key for key in keys if key.endswith(".jpg")][number::100][: IMAGES // 100]
        for key in changed:
            prefix.write(key, jpeg + os.urandom(8))
        theirs = timed(lambda: bare(prefix, changed))  # noqa: B023 - called at once
        again.append((theirs, timed(lambda number=number: read(prefix, workspace, name, tmp_path / str(number)))))  # type: ignore[misc]
    # The first round imports what reads.
    tell(capsys, f"{name}, {IMAGES:,} images", len(keys), pairs[1:])
    tell(capsys, f"{name}, one image in a hundred changed, the listing included in ours", len(changed), again[1:])


def read(place: Prefix, workspace: Prefix, name: str, work: Path) -> None:
    """Reads a dataset as snapshot does, with what an earlier one kept."""
    source = formats.Source(place, work)
    kept = Kept(workspace, source)
    source.pictures, source.files = kept.sizes, kept.file
    assert len(formats.reader(name)(source).images) == IMAGES
    kept.write()


def test_headers_and_a_view(
    s3: Server, s3_environment: Server, jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """validate's look at each image's start; then the view that a training makes of images that its cache has."""
    prefix = filled(s3, jpeg, "folders")
    workspace = tmp_path / "workspace"
    taken = stage("snapshot", workspace, dataset=prefix.uri)
    snapshot = Snapshot(taken)
    keys = [row.key for row in snapshot.rows]
    pairs = [
        (
            timed(lambda: bare(prefix, keys)),
            timed(lambda: [*inspect(prefix, snapshot.rows, whole=False)]),
        )
        for _ in range(ROUNDS)
    ]
    tell(capsys, f"validate, headers, {IMAGES:,} images", len(keys), pairs)
    report = stage("validate", workspace, snapshot=taken.uri, mode="annotations")
    converted = Converted(stage("convert", workspace, snapshot=taken.uri, report=report.uri))
    cache = ImageCache(tmp_path / "cache")
    cold, _ = timed(lambda: converted.view(snapshot, tmp_path / "cold", cache))
    warm = [timed(lambda n=n: converted.view(snapshot, tmp_path / f"warm-{n}", cache))[0] for n in range(ROUNDS)]  # type: ignore[misc]
    assert cache.fetched == IMAGES
    with capsys.disabled():
        median = statistics.median(warm)
        print(f"\na view of {IMAGES:,} images: {cold:.2f} s with an empty cache, {median:.2f} s with a warm one")
        print(f"  {IMAGES / median:,.0f} images a second, checked in this boot")
