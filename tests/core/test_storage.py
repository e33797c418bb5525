"""What the layout rests on: conditional writes, whole transfers, keys that come back as they were given."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from visionloop.core import storage
from visionloop.core.errors import Defect, InvalidDataset, NotFound, PreconditionFailed
from visionloop.core.storage import Prefix, Sent, open_prefix, read_uri
from visionloop.core.stores import split_uri

ROUNDS, RACERS = 30, 8


@pytest.fixture
def store_prefix(workspace: str) -> Prefix:
    return open_prefix(workspace, "results")


def race(work) -> list:
    """Runs ``work(i)`` in threads that start at the same moment; its results."""
    barrier = Barrier(RACERS)

    def racer(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(racer, range(RACERS)))


def races(work, rounds: int) -> list[list]:
    """Many races at once, each among its own racers: a SeaweedFS that is contended answers after whole seconds."""
    with ThreadPoolExecutor(rounds) as pool:
        return list(pool.map(lambda number: race(lambda racer: work(number, racer)), range(rounds)))


def test_of_racing_creates_exactly_one_wins_and_its_bytes_stay(store_prefix):
    results = races(lambda number, racer: store_prefix.create(f"race/{number}", b"%d" % racer), ROUNDS)
    for number, won in enumerate(results):
        assert won.count(True) == 1
        assert store_prefix.read(f"race/{number}") == b"%d" % won.index(True)


def test_of_racing_replaces_with_one_etag_exactly_one_wins(store_prefix):
    def attempt(number, racer):
        try:
            store_prefix.replace(f"race/{number}", b"new %d" % racer, etags[number])
        except PreconditionFailed:
            return False
        return True

    rounds = 6
    for number in range(rounds):
        store_prefix.create(f"race/{number}", b"old")
    etags = [store_prefix.read_with_etag(f"race/{number}")[1] for number in range(rounds)]
    for number, won in enumerate(races(attempt, rounds)):
        assert won.count(True) == 1
        assert store_prefix.read(f"race/{number}") == b"new %d" % won.index(True)


def test_replace_needs_the_etag_that_is_there(store_prefix):
    store_prefix.create("a", b"1")
    first = store_prefix.read_with_etag("a")[1]
    store_prefix.replace("a", b"2", first)
    with pytest.raises(PreconditionFailed):
        store_prefix.replace("a", b"3", first)
    assert store_prefix.read("a") == b"2"
    store_prefix.replace("a", b"4", store_prefix.read_with_etag("a")[1])
    assert store_prefix.read("a") == b"4"


@pytest.mark.parametrize("key", ["absent", "absent-folder/absent"])
def test_replace_of_what_is_gone_is_refused(store_prefix, key):
    with pytest.raises(PreconditionFailed):
        store_prefix.replace(key, b"1", '"0123456789abcdef0123456789abcdef"')
    assert not store_prefix.exists(key)


@pytest.mark.parametrize("size", [0, 1, storage.PART_BYTES, storage.PART_BYTES + 7])
def test_upload_and_download_are_inverse_and_tell_size_and_digest(store_prefix, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "sent").write_bytes(data)
    signs = []
    sent = store_prefix.upload(tmp_path / "sent", "folder/object", lambda: signs.append("sent"))
    assert sent == Sent(size, hashlib.sha256(data).hexdigest())
    assert len(signs) == -(-size // storage.PART_BYTES)
    assert store_prefix.head("folder/object").size == size
    assert (
        store_prefix.download("folder/object", tmp_path / "new" / "folder" / "got", lambda: signs.append("got")) == sent
    )
    assert (tmp_path / "new" / "folder" / "got").read_bytes() == data
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["got"]
    assert ("got" in signs) == (size > 0)


def test_what_is_not_on_this_machine_is_no_fault_of_the_store(store_prefix, tmp_path):
    with pytest.raises(Defect, match="no such file to send"):
        store_prefix.upload(tmp_path / "missing", "object")
    assert not store_prefix.exists("object")


def test_an_interrupted_upload_leaves_no_object(store_prefix, tmp_path):
    (tmp_path / "large").write_bytes(bytes(2 * storage.PART_BYTES))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_prefix.upload(tmp_path / "large", "object", stop)
    assert not store_prefix.exists("object")


KILLED = """
import os, signal, sys
from pathlib import Path
from visionloop.core.storage import open_prefix
open_prefix(sys.argv[1], "results").upload(Path(sys.argv[2]), "key/large", lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_upload_left_beside_the_objects_is_removed_and_nothing_else(file_workspace, tmp_path):
    """A folder's client writes to ``name#1`` and renames: a kill leaves that file, which no listing shows."""
    prefix = open_prefix(file_workspace, "results")
    prefix.write("key/whole", b"1")
    prefix.write("other/whole", b"2")
    (tmp_path / "large").write_bytes(bytes(2 * storage.PART_BYTES))
    killed = [sys.executable, "-c", KILLED, file_workspace, str(tmp_path / "large")]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    root = storage.local_path(file_workspace)
    assert root is not None
    (partial,) = (path for path in Path(root, "key").iterdir() if path.name != "whole")
    size = partial.stat().st_size
    Path(root, "key", "report#1.html").touch()
    assert [info.key for info in prefix.objects("key")] == ["key/report#1.html", "key/whole"]
    assert prefix.discard_partial("other") == (0, 0)
    assert prefix.discard_partial("never") == (0, 0)
    with pytest.raises(InvalidDataset):
        open_prefix(f"{file_workspace}/other", "results").discard_partial("../key")
    assert prefix.discard_partial("key") == (1, size)
    assert not partial.exists()
    assert sorted(info.key for info in prefix.objects()) == ["key/report#1.html", "key/whole", "other/whole"]


def test_an_object_store_shows_no_half_object(s3_workspace):
    prefix = open_prefix(s3_workspace, "results")
    prefix.write("key/whole", b"1")
    assert prefix.discard_partial("key") == (0, 0)
    assert prefix.exists("key/whole")


def test_an_interrupted_download_leaves_no_file(store_prefix, tmp_path):
    store_prefix.write("object", bytes(2**22))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_prefix.download("object", tmp_path / "got", stop)
    assert list(tmp_path.glob("*got*")) == []


def test_the_start_of_an_object(store_prefix):
    store_prefix.write("object", b"0123456789")
    store_prefix.write("empty", b"")
    assert store_prefix.read_start("object", 4) == b"0123"
    assert store_prefix.read_start("object", 100) == b"0123456789"
    assert store_prefix.read_start("empty", 4) == b""


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "사진 café.png") for form in ("NFC", "NFD"))
KEYS = [
    "a b/c d.png",
    "percent%20and%2F.png",
    "hash#1.png",
    "plus+minus.png",
    "question?x=1&y=2.png",
    COMPOSED,
    DECOMPOSED,
    "bottle/broken_large/000.png",
    "quote'\"<&>.png",
    "colon:semi;comma,.png",
    " space at the edges ",
    ".hidden",
    "🦊.png",
    "%",
    "%41",
    "A",
]


def test_keys_come_back_as_they_were_given(store_prefix):
    assert COMPOSED != DECOMPOSED
    for key in KEYS:
        store_prefix.write(key, key.encode())
    infos = {info.key: info for info in store_prefix.objects()}
    assert sorted(infos) == sorted(KEYS)
    for key in KEYS:
        assert store_prefix.read(key) == key.encode()
        assert infos[key].size == len(key.encode())
        assert infos[key].etag == store_prefix.head(key).etag
        assert not infos[key].etag.startswith('"')


def test_a_backslash_is_a_character_of_a_files_name(file_workspace):
    # Not on SeaweedFS, which stores such an object under '/'.
    prefix = open_prefix(file_workspace, "results")
    prefix.write("back\\slash.png", b"1")
    assert [info.key for info in prefix.objects()] == ["back\\slash.png"]


def test_a_child_place_speaks_of_the_same_objects(store_prefix):
    for name in ("a b", "percent%41", "hash#x", "café"):
        child = store_prefix.child(f"{name}/below")
        child.write("object", name.encode())
        assert store_prefix.read(f"{name}/below/object") == name.encode()
        assert [info.key for info in child.objects()] == ["object"]
        again = open_prefix(child.uri, "results")
        assert again.read("object") == name.encode()
        assert read_uri(f"{child.uri}/object", "results") == name.encode()


def test_listing_keeps_to_the_prefix_and_is_relative_to_it(store_prefix):
    for key in ("ab/1", "a/1", "a/b/2", "a/b/c/3", "abc"):
        store_prefix.write(key, b"")
    assert sorted(info.key for info in store_prefix.objects("a")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(info.key for info in store_prefix.objects("a/")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(info.key for info in store_prefix.child("a").objects("b")) == ["b/2", "b/c/3"]
    names, objects = store_prefix.children()
    assert (names, [info.key for info in objects]) == (["a", "ab"], ["abc"])
    names, objects = store_prefix.children("a")
    assert (names, [info.key for info in objects]) == (["b"], ["a/1"])
    assert store_prefix.children("nothing") == ([], [])
    assert list(store_prefix.objects("nothing")) == []


def test_an_object_beside_a_folder_of_its_name(s3_workspace):
    prefix = open_prefix(s3_workspace, "results")
    prefix.write("a", b"object")
    prefix.write("a/b", b"below")
    assert sorted(info.key for info in prefix.objects()) == ["a", "a/b"]
    assert prefix.read("a") == b"object"
    names, objects = prefix.children()
    assert (names, [info.key for info in objects]) == (["a"], ["a"])
    assert [info.key for info in prefix.objects("a")] == ["a/b"]


def test_a_listing_longer_than_a_page(store_prefix):
    keys = [f"many/{number:04}" for number in range(1100)]
    list(store_prefix.map(lambda key: store_prefix.write(key, b""), keys))
    assert sorted(info.key for info in store_prefix.objects("many")) == keys


def test_map_keeps_the_order_and_raises_the_first_error(store_prefix):
    for number in range(40):
        store_prefix.write(str(number), b"%d" % number)
    assert list(store_prefix.map(store_prefix.read, (str(number) for number in range(40)))) == [
        b"%d" % n for n in range(40)
    ]
    with pytest.raises(NotFound, match="missing"):
        list(store_prefix.map(store_prefix.read, ["1", "missing", "2"]))


def test_map_drops_what_has_not_begun_when_its_results_are_wanted_no_more(store_prefix):
    begun, stopped = [], Event()

    def work(number: int) -> None:
        begun.append(number)
        if number:
            stopped.wait()
            time.sleep(0.001)

    def stop_at_the_first() -> None:
        for _ in store_prefix.map(work, range(10_000)):
            stopped.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_at_the_first()
    assert len(begun) < 10_000


def test_delete_and_copy(store_prefix):
    store_prefix.write("a", b"1")
    store_prefix.copy("a", "folder/b")
    store_prefix.write("a", b"2")
    assert store_prefix.read("folder/b") == b"1"
    store_prefix.delete(["a", "folder/b", "never"])
    assert list(store_prefix.objects()) == []


def test_a_folder_that_does_not_exist_is_an_empty_dataset(tmp_path):
    prefix = open_prefix(str(tmp_path / "missing"), "dataset")
    assert list(prefix.objects()) == []
    assert prefix.children() == ([], [])
    with pytest.raises(NotFound):
        prefix.read("metadata.json")
    assert not (tmp_path / "missing").exists()


def test_split_uri(tmp_path):
    assert split_uri("s3://b/x/y/receipt.json") == ("s3://b/x/y", "receipt.json")
    assert split_uri(str(tmp_path / "a b" / "r.json")) == ((tmp_path / "a b").as_uri(), "r.json")


def test_the_start_of_an_object_comes_with_its_etag_by_one_request(store_prefix, monkeypatch):
    store_prefix.write("object", b"0123456789")
    store_prefix.write("empty", b"")
    etags = {key: store_prefix.head(key).etag for key in ("object", "empty")}
    assert store_prefix.read_start_with_etag("empty", 4) == (b"", etags["empty"])
    monkeypatch.setattr(storage.obstore, "head", None)
    assert store_prefix.read_start_with_etag("object", 4) == (b"0123", etags["object"])
