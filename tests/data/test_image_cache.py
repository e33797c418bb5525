"""The image cache: what it hands out was fetched as it is, and the store's ETag is compared, never understood."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visionloop.core.errors import DatasetChanged, InvalidConfig, SickMachine
from visionloop.core.storage import Prefix, open_prefix
from visionloop.data import images
from visionloop.data.images import ImageCache, ImageRow, materialise


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), colour).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


BYTES = png(7)


@pytest.fixture
def dataset(tmp_path: Path) -> Prefix:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "a.png").write_bytes(BYTES)
    return open_prefix(str(tmp_path / "dataset"), "dataset")


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


def row(key: str = "a.png", data: bytes = BYTES) -> ImageRow:
    return ImageRow(key, key, len(data), hashlib.sha256(data).hexdigest(), None, "train", 64, 64)


def test_a_second_use_fetches_nothing_and_leaves_the_file_alone(dataset: Prefix, cache: ImageCache) -> None:
    path = cache.fetch(dataset, row())
    before = path.stat()
    assert cache.fetch(dataset, row()) == path
    assert cache.fetched == 1
    assert path.stat() == before


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_damaged_file_is_fetched_again(keep_time: bool, dataset: Prefix, cache: ImageCache) -> None:
    """A disk that turned blocks into zeros changes no time; what it does change is seen in another boot at the latest."""
    path = cache.fetch(dataset, row())
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"\0" * 100)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        other_boot(path)
    assert cache.fetch(dataset, row()).read_bytes() == BYTES
    assert cache.fetched == 2


def other_boot(path: Path) -> None:
    file = path.with_name(f"{path.name}.json")
    digest = json.loads(file.read_text())
    digest["seen"]["boot"] = "another"
    file.write_text(json.dumps(digest))


def test_an_intact_file_of_another_boot_is_hashed_once(
    dataset: Prefix, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache.fetch(dataset, row())
    other_boot(path)
    hashed: list[str] = []
    real = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        hashed.append(name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    for _ in range(2):
        cache.fetch(dataset, row())
    assert hashed == ["sha256"]
    assert cache.fetched == 1


def test_without_a_boot_id_every_use_hashes(
    dataset: Prefix, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "boot_id", lambda: "")
    path = cache.fetch(dataset, row())
    status = path.stat()
    path.write_bytes(b"x" * len(BYTES))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.fetch(dataset, row()).read_bytes() == BYTES


@pytest.mark.parametrize("digest", [None, b"", b"{", b"[]", b'{"sha256": 1}'])
def test_a_file_without_a_usable_digest_is_fetched_again(
    digest: bytes | None, dataset: Prefix, cache: ImageCache
) -> None:
    path = cache.fetch(dataset, row())
    file = path.with_name(f"{path.name}.json")
    if digest is None:
        file.unlink()
    else:
        file.write_bytes(digest)
    cache.fetch(dataset, row())
    assert cache.fetched == 2


def test_an_image_that_is_here_is_linked_without_a_look_at_its_dataset(
    dataset: Prefix, cache: ImageCache, tmp_path: Path
) -> None:
    first, second = str(tmp_path / "first" / "a.png"), str(tmp_path / "second" / "a.png")
    assert not cache.link_present(row(), None)
    assert materialise(dataset, [(row(), first)], cache) == 1
    gone = open_prefix(str(tmp_path / "gone"), "dataset")
    assert materialise(gone, [(row(), second), (row(), None)], cache) == 2
    assert Path(second).samefile(cache.path_of(row()))
    used = cache.path_of(row()).with_name(f"{cache.path_of(row()).name}.json")
    os.utime(used, (0, 0))
    assert materialise(gone, [(row(), None)], cache) == 1
    assert used.stat().st_mtime > 0


def test_a_target_that_is_a_link_to_the_cache_already_costs_no_byte(
    dataset: Prefix, cache: ImageCache, tmp_path: Path
) -> None:
    for _ in range(2):
        cache.link(dataset, row(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == cache.path_of(row()).read_bytes() == BYTES


def test_an_image_that_was_never_decoded_is_decoded_before_it_is_linked(
    dataset: Prefix, cache: ImageCache, tmp_path: Path
) -> None:
    path = cache.fetch(dataset, row())
    assert not cache.link_present(row(), str(tmp_path / "a.png"))
    cache.link(dataset, row(), tmp_path / "a.png")
    path.write_bytes(BYTES[:-1] + b"x")
    assert not cache.link_present(row(), str(tmp_path / "b.png"))


def test_a_hard_link_does_not_count_as_a_change(
    dataset: Prefix, cache: ImageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.link(dataset, row(), tmp_path / "view" / "a.png")
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed"))
    cache.link(dataset, row(), tmp_path / "view" / "b.png")
    assert (tmp_path / "view" / "b.png").read_bytes() == BYTES


def test_the_least_recently_used_goes_first_with_its_digest(tmp_path: Path, dataset: Prefix) -> None:
    rows = []
    for number in range(3):
        data = bytes([number]) * 1000
        (tmp_path / "dataset" / f"{number}.png").write_bytes(data)
        rows.append(row(f"{number}.png", data))
    cache = ImageCache(tmp_path / "cache")
    paths = [cache.fetch(dataset, entry) for entry in rows]
    for age, path in enumerate(paths):
        os.utime(path.with_name(f"{path.name}.json"), (age + 1, age + 1))
    cache.fetch(dataset, rows[0])
    assert cache.trim(2500) == 1000
    left = sorted(path.name for path in tmp_path.glob("cache/objects/*/*"))
    assert left == sorted(name for path in (paths[0], paths[2]) for name in (path.name, f"{path.name}.json"))


class Bucket:
    """A store whose ETags are 32 hex digits and no MD5, as under SSE-KMS and SSE-C; no store that runs here has them."""

    on_files = False
    uri = "s3://bucket/dataset"

    def __init__(self, etag: str) -> None:
        self.etag = etag

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        return BYTES, f'"{self.etag}"'


OPAQUE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("etag", [OPAQUE, f"{OPAQUE}-3", "", "anything", hashlib.md5(BYTES).hexdigest()])
def test_an_etag_is_compared_and_not_understood(etag: str, cache: ImageCache) -> None:
    frozen = ImageRow("a.png", "a.png", len(BYTES), etag, None, "train", 64, 64)
    assert cache.fetch(Bucket(etag), frozen).read_bytes() == BYTES  # type: ignore[arg-type]
    other = ImageRow("a.png", "a.png", len(BYTES), f"{etag}0", None, "train", 64, 64)
    with pytest.raises(DatasetChanged, match=r"a\.png: the image changed"):
        cache.fetch(Bucket(etag), other)  # type: ignore[arg-type]


def filled(folder: Path, count: int) -> tuple[Prefix, list[ImageRow]]:
    """A dataset of images of one size, and its rows."""
    folder.mkdir()
    rows = []
    for number in range(count):
        data = png(number)
        (folder / f"{number}.png").write_bytes(data)
        rows.append(row(f"{number}.png", data))
    return open_prefix(str(folder), "dataset"), rows


def test_the_limit_holds_while_the_cache_fills(tmp_path: Path) -> None:
    prefix, rows = filled(tmp_path / "many", 20)
    cache = ImageCache(tmp_path / "cache", limit=5 * len(BYTES))
    largest = 0
    for number, image in enumerate(rows):
        cache.link(prefix, image, tmp_path / "view" / f"{number}.png")
        largest = max(largest, sum(entry.size for entry in cache.entries()))
    assert 0 < largest <= cache.limit
    # What was evicted stays in the view.
    assert [(tmp_path / "view" / f"{number}.png").read_bytes() for number in range(20)] == [png(n) for n in range(20)]


def test_an_image_larger_than_the_limit_is_linked(dataset: Prefix, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", limit=1)
    cache.link(dataset, row(), tmp_path / "view" / "a.png")
    assert (tmp_path / "view" / "a.png").read_bytes() == BYTES


def test_verify_removes_what_is_damaged(tmp_path: Path) -> None:
    prefix, rows = filled(tmp_path / "many", 3)
    cache = ImageCache(tmp_path / "cache")
    paths = [cache.fetch(prefix, image) for image in rows]
    status = paths[0].stat()
    paths[0].write_bytes(b"\0" * status.st_size)
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    paths[1].with_name(f"{paths[1].name}.json").unlink()
    assert [cache.verify(entry) for entry in sorted(cache.entries(), key=lambda entry: paths.index(entry.path))] == [
        False,
        False,
        True,
    ]
    assert [path.exists() for path in paths] == [False, False, True]


def test_what_a_kill_left_is_removed_later(cache: ImageCache) -> None:
    folder = cache.folder / "objects" / "ab"
    folder.mkdir(parents=True)
    new, old = folder / ".x.1.partial", folder / ".x.2.partial"
    new.write_bytes(b"123")
    old.write_bytes(b"12345")
    os.utime(old, (0, 0))
    assert cache.remove_leftovers() == 5
    assert (new.exists(), old.exists()) == (True, False)
    assert list(cache.entries()) == []


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE_BYTES", "50GB")
    with pytest.raises(InvalidConfig, match="VISIONLOOP_CACHE_BYTES is '50GB'; give a whole number of bytes"):
        ImageCache.of_environment()


def test_images_that_the_disk_can_not_hold_are_refused_before_the_first(
    dataset: Prefix, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row()]
    cache.check_room(rows)
    full = shutil.disk_usage(cache.folder.parent)._replace(free=len(BYTES) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(SickMachine, match=r"1 images with 0\.0 MB are to be fetched, but the machine's disk is full"):
        cache.check_room(rows)
    small = full._replace(total=len(BYTES) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(
        InvalidConfig, match=r"1 images with 0\.0 MB are to be fetched, .* has 0\.0 MB in all; give the stage"
    ):
        cache.check_room(rows)
    cache.fetch(dataset, rows[0])
    cache.check_room(rows)  # what is there needs no room


def first_read_by_many_threads(path: Path) -> int:
    """The exit code of a process whose threads all read the first digest of its life at once."""
    process = os.fork()
    if process == 0:
        sys.setswitchinterval(1e-6)
        barrier = threading.Barrier(8)

        def read() -> None:
            barrier.wait()
            images._read_digest(path)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_the_first_digest_may_be_read_by_many_threads_at_once(tmp_path: Path) -> None:
    """msgspec makes up its mind about a type when it first decodes one, and ends the process if threads do so together."""
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:];"
        "import test_image_cache as tests; path = Path(sys.argv[1]);"
        "sys.exit(sum(tests.first_read_by_many_threads(path) != 0 for _ in range(40)))"
    )
    digest = images.Digest("0" * 64, images.Seen(1, 2, 3, "boot"))
    images._write_digest(tmp_path / "picture", digest)
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "picture"), *sys.path], check=False, timeout=60
    )
    assert ended.returncode == 0
