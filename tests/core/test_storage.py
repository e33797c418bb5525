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
def place(workspace: str) -> Prefix:
    return open_prefix(workspace, "results")


def race(work) -> list:
    """Runs ``work(i)`` in threads that start at the same moment; its results."""
    barrier = Barrier(RACERS)

    def one(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(one, range(RACERS)))


def races(work, rounds: int) -> list[list]:
    """Many races at once, each among its own racers: a SeaweedFS that is contended answers after whole seconds."""
    with ThreadPoolExecutor(rounds) as pool:
        return list(pool.map(lambda number: race(lambda racer: work(number, racer)), range(rounds)))


def test_of_racing_creates_exactly_one_wins_and_its_bytes_stay(place):
    results = races(lambda number, racer: place.create(f"race/{number}", b"%d" % racer), ROUNDS)
    for number, won in enumerate(results):
        assert won.count(True) == 1
        assert place.read(f"race/{number}") == b"%d" % won.index(True)


def test_of_racing_replaces_with_one_etag_exactly_one_wins(place):
    def attempt(number, racer):
        try:
            place.replace(f"race/{number}", b"new %d" % racer, etags[number])
        except PreconditionFailed:
            return False
        return True

    rounds = 6
    for number in range(rounds):
        place.create(f"race/{number}", b"old")
    etags = [place.read_with_etag(f"race/{number}")[1] for number in range(rounds)]
    for number, won in enumerate(races(attempt, rounds)):
        assert won.count(True) == 1
        assert place.read(f"race/{number}") == b"new %d" % won.index(True)


def test_replace_needs_the_etag_that_is_there(place):
    place.create("a", b"1")
    first = place.read_with_etag("a")[1]
    place.replace("a", b"2", first)
    with pytest.raises(PreconditionFailed):
        place.replace("a", b"3", first)
    assert place.read("a") == b"2"
    place.replace("a", b"4", place.read_with_etag("a")[1])
    assert place.read("a") == b"4"


@pytest.mark.parametrize("key", ["absent", "absent-folder/absent"])
def test_replace_of_what_is_gone_is_refused(place, key):
    with pytest.raises(PreconditionFailed):
        place.replace(key, b"1", '"0123456789abcdef0123456789abcdef"')
    assert not place.exists(key)


@pytest.mark.parametrize("size", [0, 1, storage.PART_BYTES, storage.PART_BYTES + 7])
def test_upload_and_download_are_inverse_and_tell_size_and_digest(place, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "sent").write_bytes(data)
    signs = []
    sent = place.upload(tmp_path / "sent", "folder/object", lambda: signs.append("sent"))
    assert sent == Sent(size, hashlib.sha256(data).hexdigest())
    assert len(signs) == -(-size // storage.PART_BYTES)
    assert place.head("folder/object").size == size
    assert place.download("folder/object", tmp_path / "new" / "folder" / "got", lambda: signs.append("got")) == sent
    assert (tmp_path / "new" / "folder" / "got").read_bytes() == data
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["got"]
    assert ("got" in signs) == (size > 0)


def test_what_is_not_on_this_machine_is_no_fault_of_the_store(place, tmp_path):
    with pytest.raises(Defect, match="no such file to send"):
        place.upload(tmp_path / "missing", "object")
    assert not place.exists("object")


def test_an_interrupted_upload_leaves_no_object(place, tmp_path):
    (tmp_path / "large").write_bytes(bytes(2 * storage.PART_BYTES))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.upload(tmp_path / "large", "object", stop)
    assert not place.exists("object")


KILLED = """
import os, signal, sys
from pathlib import Path
from visionloop.core.storage import open_prefix
open_prefix(sys.argv[1], "results").upload(Path(sys.argv[2]), "key/large", lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_upload_left_beside_the_objects_is_removed_and_nothing_else(file_workspace, tmp_path):
    """A folder's client writes to ``name#1`` and renames: a kill leaves that file, which no listing shows."""
    place = open_prefix(file_workspace, "results")
    place.write("key/whole", b"1")
    place.write("other/whole", b"2")
    (tmp_path / "large").write_bytes(bytes(2 * storage.PART_BYTES))
    killed = [sys.executable, "-c", KILLED, file_workspace, str(tmp_path / "large")]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    root = storage.local_path(file_workspace)
    assert root is not None
    (partial,) = (path for path in Path(root, "key").iterdir() if path.name != "whole")
    size = partial.stat().st_size
    Path(root, "key", "report#1.html").touch()
    assert [info.key for info in place.objects("key")] == ["key/report#1.html", "key/whole"]
    assert place.discard_partial("other") == (0, 0)
    assert place.discard_partial("never") == (0, 0)
    with pytest.raises(InvalidDataset):
        open_prefix(f"{file_workspace}/other", "results").discard_partial("../key")
    assert place.discard_partial("key") == (1, size)
    assert not partial.exists()
    assert sorted(info.key for info in place.objects()) == ["key/report#1.html", "key/whole", "other/whole"]


def test_an_object_store_shows_no_half_object(s3_workspace):
    place = open_prefix(s3_workspace, "results")
    place.write("key/whole", b"1")
    assert place.discard_partial("key") == (0, 0)
    assert place.exists("key/whole")


def test_an_interrupted_download_leaves_no_file(place, tmp_path):
    place.write("object", bytes(2**22))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.download("object", tmp_path / "got", stop)
    assert list(tmp_path.glob("*got*")) == []


def test_the_start_of_an_object(place):
    place.write("object", b"0123456789")
    place.write("empty", b"")
    assert place.read_start("object", 4) == b"0123"
    assert place.read_start("object", 100) == b"0123456789"
    assert place.read_start("empty", 4) == b""


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


def test_keys_come_back_as_they_were_given(place):
    assert COMPOSED != DECOMPOSED
    for key in KEYS:
        place.write(key, key.encode())
    infos = {info.key: info for info in place.objects()}
    assert sorted(infos) == sorted(KEYS)
    for key in KEYS:
        assert place.read(key) == key.encode()
        assert infos[key].size == len(key.encode())
        assert infos[key].etag == place.head(key).etag
        assert not infos[key].etag.startswith('"')


def test_a_backslash_is_a_character_of_a_files_name(file_workspace):
    # Not on SeaweedFS, which stores such an object under '/'.
    place = open_prefix(file_workspace, "results")
    place.write("back\\slash.png", b"1")
    assert [info.key for info in place.objects()] == ["back\\slash.png"]


def test_a_child_place_speaks_of_the_same_objects(place):
    for name in ("a b", "percent%41", "hash#x", "café"):
        child = place.child(f"{name}/below")
        child.write("object", name.encode())
        assert place.read(f"{name}/below/object") == name.encode()
        assert [info.key for info in child.objects()] == ["object"]
        again = open_prefix(child.uri, "results")
        assert again.read("object") == name.encode()
        assert read_uri(f"{child.uri}/object", "results") == name.encode()


def test_listing_keeps_to_the_prefix_and_is_relative_to_it(place):
    for key in ("ab/1", "a/1", "a/b/2", "a/b/c/3", "abc"):
        place.write(key, b"")
    assert sorted(info.key for info in place.objects("a")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(info.key for info in place.objects("a/")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(info.key for info in place.child("a").objects("b")) == ["b/2", "b/c/3"]
    names, objects = place.children()
    assert (names, [info.key for info in objects]) == (["a", "ab"], ["abc"])
    names, objects = place.children("a")
    assert (names, [info.key for info in objects]) == (["b"], ["a/1"])
    assert place.children("nothing") == ([], [])
    assert list(place.objects("nothing")) == []


def test_an_object_beside_a_folder_of_its_name(s3_workspace):
    place = open_prefix(s3_workspace, "results")
    place.write("a", b"object")
    place.write("a/b", b"below")
    assert sorted(info.key for info in place.objects()) == ["a", "a/b"]
    assert place.read("a") == b"object"
    names, objects = place.children()
    assert (names, [info.key for info in objects]) == (["a"], ["a"])
    assert [info.key for info in place.objects("a")] == ["a/b"]


def test_a_listing_longer_than_a_page(place):
    keys = [f"many/{number:04}" for number in range(1100)]
    list(place.map(lambda key: place.write(key, b""), keys))
    assert sorted(info.key for info in place.objects("many")) == keys


def test_map_keeps_the_order_and_raises_the_first_error(place):
    for number in range(40):
        place.write(str(number), b"%d" % number)
    assert list(place.map(place.read, (str(number) for number in range(40)))) == [b"%d" % n for n in range(40)]
    with pytest.raises(NotFound, match="missing"):
        list(place.map(place.read, ["1", "missing", "2"]))


def test_map_drops_what_has_not_begun_when_its_results_are_wanted_no_more(place):
    begun, stopped = [], Event()

    def work(number: int) -> None:
        begun.append(number)
        if number:
            stopped.wait()
            time.sleep(0.001)

    def stop_at_the_first() -> None:
        for _ in place.map(work, range(10_000)):
            stopped.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_at_the_first()
    assert len(begun) < 10_000


def test_delete_and_copy(place):
    place.write("a", b"1")
    place.copy("a", "folder/b")
    place.write("a", b"2")
    assert place.read("folder/b") == b"1"
    place.delete(["a", "folder/b", "never"])
    assert list(place.objects()) == []


def test_a_folder_that_does_not_exist_is_an_empty_dataset(tmp_path):
    place = open_prefix(str(tmp_path / "missing"), "dataset")
    assert list(place.objects()) == []
    assert place.children() == ([], [])
    with pytest.raises(NotFound):
        place.read("metadata.json")
    assert not (tmp_path / "missing").exists()


def test_split_uri(tmp_path):
    assert split_uri("s3://b/x/y/receipt.json") == ("s3://b/x/y", "receipt.json")
    assert split_uri(str(tmp_path / "a b" / "r.json")) == ((tmp_path / "a b").as_uri(), "r.json")


def test_the_start_of_an_object_comes_with_its_etag_by_one_request(place, monkeypatch):
    place.write("object", b"0123456789")
    place.write("empty", b"")
    etags = {key: place.head(key).etag for key in ("object", "empty")}
    assert place.read_start_with_etag("empty", 4) == (b"", etags["empty"])
    monkeypatch.setattr(storage.obstore, "head", None)
    assert place.read_start_with_etag("object", 4) == (b"0123", etags["object"])
