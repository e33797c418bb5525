"""Paired timings, printed with their ratio. Run by ``make bench``. They assert what was done, never how long it took.

BENCH_ROUNDS is the number of pairs of each.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import cv2
import laptop as machine
import numpy
import pytest
from botocore.config import Config
from laptop import Dataset, Laptop, Server

from visionloop.components.evaluate.interval import interval
from visionloop.core.processes import boot_id
from visionloop.core.storage import PARALLEL_TRANSFERS, Prefix
from visionloop.data.decoding import decode
from visionloop.data.images import ImageCache, ImageRow
from visionloop.pipelines.engines.laptop import task_server
from visionloop.training.measurement.matches import Matches, packed
from visionloop.training.trainers import Evaluation

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
IMAGES = 2000
IMAGE_BYTES = 100_000


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tell(capsys: pytest.CaptureFixture[str], name: str, **seconds: list[float]) -> None:
    """Prints the medians of two ways, their spread and how often the one goes into the other."""
    (entry, first), (other, second) = seconds.items()
    medians = [statistics.median(values) for values in (first, second)]
    with capsys.disabled():
        print(f"\n{name}")
        for label, values, median in zip((entry, other), (first, second), medians, strict=True):
            print(f"  {label:<12} {median:8.2f} s  ({min(values):.2f} to {max(values):.2f}, {len(values)} rounds)")
        print(f"  {entry} / {other} = {medians[0] / medians[1]:.2f}")


@pytest.fixture
def bulk(s3: Server) -> Prefix:
    """Many objects of an image's size."""
    prefix = machine.s3_prefix(s3, "datasets", f"bulk-{uuid.uuid4().hex[:8]}", "dataset")
    data = bytes(range(256)) * (IMAGE_BYTES // 256)
    for _ in prefix.map(lambda key: prefix.write(key, data + key.encode()), [f"{n:06d}" for n in range(IMAGES)]):
        pass
    return prefix


def test_fetching_many_images(bulk: Prefix, s3: Server, capsys: pytest.CaptureFixture[str]):
    """What the store's module does, compared with boto3 with as many threads."""
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.keys.access,
        aws_secret_access_key=s3.keys.secret,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", max_pool_connections=PARALLEL_TRANSFERS),
    )
    keys = [info.key for info in bulk.objects()]
    assert len(keys) == IMAGES

    def ours() -> None:
        assert sum(len(data) for data in bulk.map(bulk.read, keys)) > IMAGES * IMAGE_BYTES * 0.99

    def boto() -> None:
        def fetch(key: str) -> bytes:
            return bytes(client.get_object(Bucket="datasets", Key=f"{bulk.path}/{key}")["Body"].read())

        with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            assert sum(len(data) for data in pool.map(fetch, keys)) > IMAGES * IMAGE_BYTES * 0.99

    pairs = [(timed(boto), timed(ours)) for _ in range(ROUNDS)]
    tell(
        capsys,
        f"{IMAGES} objects of {IMAGE_BYTES // 1000} kB",
        boto3=[pair[0] for pair in pairs],
        visionloop=[pair[1] for pair in pairs],
    )


def test_freezing_against_copying(
    make_laptop: Callable[..., Laptop],
    make_dataset: Callable[..., Dataset],
    s3: Server,
    capsys: pytest.CaptureFixture[str],
):
    """A snapshot lists a dataset; a copy on the server moves it."""
    dataset = make_dataset(train=IMAGES // 2, val=20, test=20)
    keys = [info.key for info in dataset.prefix.objects()]
    freezing, copying = [], []
    for _ in range(ROUNDS):
        laptop = make_laptop()
        freezing.append(timed(lambda laptop=laptop: laptop.stage("snapshot", "--dataset", dataset.uri).expect()))  # type: ignore[misc]
        target = machine.s3_prefix(s3, "datasets")
        name = f"copy-{uuid.uuid4().hex[:8]}"

        def copy(key: str, target: Prefix = target, name: str = name) -> None:
            target.copy(f"{dataset.prefix.path}/{key}", f"{name}/{key}")

        copying.append(timed(lambda copy=copy: list(dataset.prefix.map(copy, keys))))  # type: ignore[misc]
    tell(capsys, f"freezing {len(keys)} objects (with the command's start)", copy=copying, snapshot=freezing)


def test_checking_cached_images_against_fetching_them(bulk: Prefix, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each image is hashed once in a boot; after that only its size, time and inode are looked at."""
    rows = [ImageRow(info.key, info.key, info.size, info.etag, None, "train", None, None) for info in bulk.objects()]
    total = sum(row.size or 0 for row in rows)
    fetched, hashed, trusted, alone = [], [], [], []
    for number in range(ROUNDS):
        cache = ImageCache(tmp_path / str(number))
        use = functools.partial(_use, cache, bulk, rows)
        fetched.append(timed(use))
        for path in cache.folder.glob("objects/*/*.json"):
            path.write_text(path.read_text().replace(boot_id(), "another boot"))
        hashed.append(timed(use))
        trusted.append(timed(use))
        alone.append(timed(lambda cache=cache: [hashlib.sha256(cache.path_of(row).read_bytes()) for row in rows]))  # type: ignore[misc]
        assert cache.fetched == len(rows)
    tell(capsys, f"{len(rows)} images, {total / 1e6:.0f} MB, one after the other", fetched=fetched, hashed=hashed)
    tell(capsys, f"hashed: {total / statistics.median(hashed) / 1e9:.2f} GB/s", hashed=hashed, trusted=trusted)
    tell(capsys, f"SHA-256 alone: {total / statistics.median(alone) / 1e9:.2f} GB/s", hashed=hashed, alone=alone)


def _use(cache: ImageCache, dataset: Prefix, rows: list[ImageRow]) -> None:
    for row in rows:
        cache.fetch(dataset, row)


@pytest.mark.skipif(not task_server.AVAILABLE, reason="steps are forks on Linux only")
def test_a_step_as_a_fork_against_a_new_interpreter(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A component that imports what each of them does, and ends."""
    source = "def work():\n    import visionloop.components.kubeflow\n    import visionloop.data.images\n"
    script = (
        'program=$(mktemp -d)/component.py; printf "%s" "$0" > "$program"; '
        f'_KFP_RUNTIME=true {sys.executable} -m kfp.dsl.executor_main --component_module_path "$program" "$@"'
    )
    executor_input = {"inputs": {}, "outputs": {"outputFile": str(tmp_path / "output.json")}}
    words = ["--executor_input", json.dumps(executor_input), "--function_to_execute", "work"]
    command = ["sh", "-ec", script, source, *words]
    task = task_server.Task.of(command, {})
    assert task is not None
    with contextlib.closing(task_server.TaskServer()) as server:
        assert server.run(task) == 0
        pairs = [
            (timed(lambda: subprocess.run(command, check=True, capture_output=True)), timed(lambda: server.run(task)))
            for _ in range(ROUNDS * 3)
        ]
    tell(
        capsys,
        "a step that does nothing",
        interpreter=[entry for entry, _ in pairs],
        fork=[other for _, other in pairs],
    )


def test_a_reused_run_against_the_first(
    make_laptop: Callable[..., Laptop], digits: Dataset, capsys: pytest.CaptureFixture[str]
):
    """The toy trainer's training takes no time, so this is what all the rest costs."""
    first, again = [], []
    for _ in range(ROUNDS):
        laptop = make_laptop()
        first.append(timed(lambda laptop=laptop: laptop.train(digits.uri).expect()))  # type: ignore[misc]
        again.append(timed(lambda laptop=laptop: laptop.train(digits.uri).expect()))  # type: ignore[misc]
        assert laptop.versions() == [("tiny-digits", 1)]
    tell(capsys, "a whole run on a laptop", first=first, reused=again)


def test_a_resumed_training_against_a_new_one(
    make_laptop: Callable[..., Laptop], digits: Dataset, capsys: pytest.CaptureFixture[str]
):
    """The real trainer, killed after its last epoch, then run again."""
    settings = (*(entry for entry in machine.TINY if not entry.startswith("epochs")), "epochs=6")
    new, resumed = [], []
    for _ in range(ROUNDS):
        laptop = make_laptop()
        uris = laptop.prepare(digits.uri)
        inputs = ["--converted", uris["convert"], "--snapshot", uris["snapshot"]]
        words = laptop.stage_command("train", *inputs, settings=settings)
        command = laptop.start(*words)
        machine.wait_for(lambda laptop=laptop: (recorded := laptop.progress()) and recorded.finished, command)  # type: ignore[misc]
        command.kill()
        resumed.append(timed(lambda laptop=laptop, words=words: laptop.run(*words).expect()))  # type: ignore[misc]
        (key,) = laptop.keys("train")
        digest = laptop.receipt("train", key).digest
        new.append(timed(lambda laptop=laptop, words=words: laptop.run(*words, "--force").expect()))  # type: ignore[misc]
        assert laptop.receipt("train", key).digest == digest
    tell(capsys, "a training of six tiny epochs", new=new, resumed=resumed)


def test_decoding_against_the_library_alone(capsys: pytest.CaptureFixture[str]):
    """The one decoder, which looks at the header and waits for its memory first, compared with OpenCV's own call."""
    pixels = numpy.random.default_rng(0).integers(0, 255, (68, 120, 3), numpy.uint8)
    picture = cv2.imencode(".jpg", cv2.resize(pixels, (1920, 1080)))[1].tobytes()
    encoded = numpy.frombuffer(picture, numpy.uint8)
    theirs = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert theirs is not None
    assert numpy.array_equal(decode(picture, "BGR"), theirs)

    def repeat(work: Callable[[], object]) -> float:
        return timed(lambda: [work() for _ in range(100)])

    pairs = [
        (repeat(lambda: cv2.imdecode(encoded, cv2.IMREAD_COLOR)), repeat(lambda: decode(picture, "BGR")))
        for _ in range(ROUNDS)
    ]
    tell(capsys, "100 JPEGs of 1920 × 1080", library=[pair[0] for pair in pairs], decoder=[pair[1] for pair in pairs])


@pytest.mark.parametrize("metric", ["mAP50-95", "precision"])
def test_the_interval_of_a_large_split(metric: str, capsys: pytest.CaptureFixture[str]):
    """1,000 samples of 5,000 images with 80 classes, each image with as many detections as there can be."""
    generator = numpy.random.default_rng(0)
    columns: list[list[Any]] = [[], [], [], []]
    for _ in range(5000):
        true = generator.integers(0, 80, generator.integers(0, 15))
        predicted = generator.integers(0, 80, 300)
        predicted[: len(true)] = true
        right = numpy.zeros((300, 10), bool)
        right[: len(true)] = generator.random((len(true), 1)) > numpy.linspace(0.2, 0.9, 10)
        for column, rows in zip(columns, (generator.random(300), predicted, packed(right), true), strict=True):
            column.append(rows)
    confidence, result, matched, objects = map(numpy.concatenate, columns)
    matches = Matches([300] * 5000, confidence, result, matched, [len(rows) for rows in columns[3]], objects)
    evaluation = Evaluation({metric: 0.5}, {}, matches.images, resampled=matches.metric)
    bounds = []
    seconds = timed(lambda: bounds.append(interval(evaluation, metric)))
    assert bounds[0] is not None
    with capsys.disabled():
        print(f"\nthe interval of {metric} over 5,000 images, 80 classes and 1.5 million detections: {seconds:.0f} s")


def test_the_check_before_a_run(mlflow_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """In a fresh interpreter, as a command or a first pod makes it: at most 2 s without a registry and 6 s with one are wanted."""
    code = (
        "import os, sys\n"
        "from visionloop.components.snapshot.preflight import HERE, preflight\n"
        "name = {'model_name': 'digits'} if os.environ.get('MLFLOW_TRACKING_URI') else {}\n"
        f"given = {{'workspace': {str(tmp_path / 'work')!r}, 'dataset': {str(tmp_path / 'data')!r}, **name}}\n"
        "print(preflight(given, {'model': 'yolo11n.yaml'}, HERE, os.environ))\n"
    )

    def check(registry: str) -> None:
        variables = {**os.environ, "MLFLOW_TRACKING_URI": registry}
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    pairs = [(timed(lambda: check("")), timed(lambda: check(f"sqlite:///{mlflow_database}"))) for _ in range(ROUNDS)]
    tell(capsys, "the check before a run", alone=[pair[0] for pair in pairs], registry=[pair[1] for pair in pairs])
