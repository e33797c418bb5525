"""``visionloop cache``: what it prints, removes and refuses."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from visionloop.core.errors import InvalidConfig, InvalidDataset
from visionloop.core.storage import open_prefix
from visionloop.data.images import ImageCache, ImageRow
from visionloop.pipelines.cli.cache import application


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageCache:
    """A cache with images of 100 bytes, the first used longest ago."""
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VISIONLOOP_CACHE_BYTES", "1000")
    made, prefix = ImageCache.of_environment(), open_prefix(str(tmp_path / "dataset"), "dataset")
    (tmp_path / "dataset").mkdir()
    for number in range(3):
        data = bytes([number]) * 100
        (tmp_path / "dataset" / f"{number}.png").write_bytes(data)
        key, etag = f"{number}.png", hashlib.sha256(data).hexdigest()
        path = made.fetch(prefix, ImageRow(key, key, 100, etag, None, "train", 8, 8))
        os.utime(path.with_name(f"{path.name}.json"), (number + 1, number + 1))
    return made


def run(*words: str) -> dict[str, object]:
    result = CliRunner().invoke(application, [*words, "--output", "json"], catch_exceptions=False)
    assert result.exit_code == 0
    value: dict[str, object] = json.loads(result.stdout)
    return value


def test_info(cache: ImageCache) -> None:
    assert run("info") == {
        "folder": str(cache.folder),
        "images": 3,
        "bytes": 300,
        "limit_bytes": 1000,
        "least_recently_used": "1970-01-01T00:00:01+00:00",
    }


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "none"))
    assert run("info")["images"] == 0
    assert run("verify")["damaged"] == []
    assert run("prune")["freed_bytes"] == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("to", "left"), [("150", 1), ("0.2kB", 2), ("0", 0), ("1 GB", 3)])
def test_prune_leaves_what_was_used_last(cache: ImageCache, to: str, left: int) -> None:
    assert run("prune", "--to", to) == {
        "folder": str(cache.folder),
        "freed_bytes": 300 - left * 100,
        "bytes": left * 100,
    }
    assert sorted(entry.used for entry in cache.entries()) == [float(number + 1) for number in range(3 - left, 3)]


@pytest.mark.parametrize("size", ["much", "-1", "5GiB", "1e3", "", "5k"])
def test_a_size_that_is_none_is_refused(cache: ImageCache, size: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^--to .*: not a size; give bytes, or a number with kB, MB, GB or TB"):
        run("prune", "--to", size)
    assert len(list(cache.entries())) == 3


def test_verify_ends_with_65_where_something_was_damaged(cache: ImageCache) -> None:
    assert run("verify")["damaged"] == []
    next(iter(cache.entries())).path.write_bytes(b"x" * 100)
    with pytest.raises(InvalidDataset, match="1 of 3 images were damaged and are removed") as refused:
        run("verify")
    assert refused.value.exit_code == 65
    assert run("verify")["images"] == 2
