"""The one decoder: what it reads, what it refuses, and how much memory it takes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionloop.core import memory
from visionloop.core.errors import InvalidDataset
from visionloop.core.memory import MemoryBudget, memory_limit
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data import drawing, images
from visionloop.data.decoding import Undecodable, decode, shown_size
from visionloop.data.headers import Unsupported
from visionloop.data.images import ImageCache, ImageRow, header_of
from visionloop.data.reduced import Reduction

NOISE = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)


def saved(kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind, **more)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 60 bytes that says it has 400 million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_red_is_first_unless_blue_is_asked_for() -> None:
    assert (decode(saved("PNG")) == NOISE).all()
    assert (decode(saved("PNG"), "BGR") == NOISE[..., ::-1]).all()


DAMAGED = {
    "jpeg": saved("JPEG")[:-40],
    "jpeg-without-end": saved("JPEG")[:-2],
    "progressive": saved("JPEG", progressive=True)[:-200],
    "png": saved("PNG")[:-60],
    "webp": saved("WEBP", lossless=True)[:-40],
    "tiff": saved("TIFF")[:-300],
    "bmp": saved("BMP")[:-300],
    "start-alone": saved("JPEG")[:12],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_was_cut_off_is_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Undecodable, match="damaged"):
        decode(DAMAGED[name])
    assert header_of(DAMAGED[name], whole=True) is None
    assert capfd.readouterr() == ("", "")  # OpenCV's own lines would stand among the log's


@pytest.mark.parametrize("data", [b"", b"GIF89a....", b"%!PS-Adobe", saved("PPM"), saved("GIF")])
def test_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(Undecodable, match="not a PNG, JPEG, WebP, BMP or TIFF"):
        decode(data)


def test_a_bomb_is_never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some libraries set it
    with pytest.raises(Undecodable, match="more than 178,956,970 pixels"):
        decode(bomb())
    for whole in (False, True):
        header = header_of(bomb(), whole=whole)
        assert isinstance(header, Unsupported)
        assert "178,956,970 pixels" in header.kind


# Memory


def test_reservations_never_exceed_the_budget() -> None:
    budget, most, lock = MemoryBudget(100), 0, threading.Lock()

    def work() -> None:
        nonlocal most
        for _ in range(50):
            with budget.reserve(40), lock:
                most = max(most, budget.used)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most <= 80
    assert budget.used == 0


def test_what_is_larger_than_the_budget_runs_alone() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(1000):
        waiting = threading.Thread(target=lambda: budget.reserve(1).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_decode_reserves_what_its_picture_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[int] = []

    class Recorded(MemoryBudget):
        def reserve(self, size: int) -> Any:
            reserved.append(size)
            return super().reserve(size)

    monkeypatch.setattr(memory, "_decodes", lambda: Recorded(1))
    decode(saved("PNG"))
    assert drawing.picture(saved("PNG"), []) is not None  # a report's picture is decoded too
    assert reserved == [24 * 40 * memory.BYTES_PER_PIXEL] * 2


@pytest.mark.parametrize("what", ["appearance", "reduction"])
def test_memory_is_held_for_what_is_done_with_the_pixels_too(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(2**30)
    monkeypatch.setattr(memory, "_decodes", lambda: budget)
    held: list[int] = []

    def looked(*_: Any, **__: Any) -> Any:
        held.append(budget.used)
        raise ValueError  # what was asked is seen

    with contextlib.suppress(ValueError):
        if what == "appearance":
            monkeypatch.setattr(images, "appearance", looked)
            images.examined(saved("PNG"), whole=True)
        else:
            monkeypatch.setattr("cv2.resize", looked)
            Reduction(16, "area").picture(saved("PNG"))
    assert held == [24 * 40 * memory.BYTES_PER_PIXEL]
    assert budget.used == 0


def test_the_first_threads_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MemoryBudget] = []

    class Slow(MemoryBudget):
        def __init__(self, limit: int) -> None:
            time.sleep(0.05)
            super().__init__(limit)
            made.append(self)

    monkeypatch.setattr(memory, "MemoryBudget", Slow)
    memory._decodes.cache_clear()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode, [saved("PNG")] * 8))
    finally:
        memory._decodes.cache_clear()
    assert len(made) == 1


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("memory.max", "2147483648\n", 2**31),
    ("memory/memory.limit_in_bytes", "1073741824", 2**30),
])  # fmt: skip
def test_the_limit_is_the_control_groups(name: str, text: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == expected


def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path) -> None:
    machine = memory_limit(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == machine > 2**28


# The image cache


@pytest.fixture
def dataset(tmp_path: Path) -> Prefix:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for name, data in {"a.png": saved("PNG"), "b.jpg": DAMAGED["jpeg"], "c.tif": DAMAGED["tiff"]}.items():
        (folder / name).write_bytes(data)
    return open_prefix(str(folder), "dataset")


def row(dataset: Prefix, key: str) -> ImageRow:
    info = dataset.head(key)
    return ImageRow(key, key, info.size, hashlib.sha256(dataset.read(key)).hexdigest(), None, "train", 40, 24)


def test_all_that_can_not_be_decoded_is_named_while_the_cache_fills(dataset: Prefix, tmp_path: Path) -> None:
    pairs = [(row(dataset, key), str(tmp_path / "view" / key)) for key in ("a.png", "b.jpg", "c.tif")]
    for cache in [ImageCache(tmp_path / "cache")] * 2:  # fetched, and found in the cache
        with pytest.raises(InvalidDataset) as caught:
            images.materialise(dataset, pairs, cache)
        assert "2 images can't be decoded: b.jpg" in str(caught.value)
        assert "c.tif" in str(caught.value)
        assert "a.png" not in str(caught.value)
        assert "--validate-mode full --on-error quarantine" in str(caught.value)
        assert str(tmp_path / "cache") not in str(caught.value)


def test_an_image_without_a_path_is_checked_and_not_linked(dataset: Prefix, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"b\.jpg"):
        images.materialise(dataset, [(row(dataset, "b.jpg"), None)], ImageCache(tmp_path / "cache"))
    assert images.materialise(dataset, [(row(dataset, "a.png"), None)], ImageCache(tmp_path / "cache")) == 1


def test_an_image_is_decoded_once_for_a_machine(
    dataset: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counted(data: bytes) -> tuple[int, int]:
        decoded.append(len(data))
        return shown_size(data)

    monkeypatch.setattr(images, "shown_size", counted)
    for number in range(3):
        images.materialise(
            dataset, [(row(dataset, "a.png"), str(tmp_path / str(number) / "a.png"))], ImageCache(tmp_path / "cache")
        )
    assert len(decoded) == 1
