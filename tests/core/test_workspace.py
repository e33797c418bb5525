"""The first use of a workspace finds out what its store keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from visionloop.core import workspace as module
from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.core.workspace import FILE, Probe, probe


def test_the_embedded_stores_keep_what_the_layout_rests_on(workspace):
    place = open_prefix(workspace, "results")
    found = probe(place)
    assert found.conditional_create
    assert found.read_after_write
    assert [info.key for info in place.objects()] == [FILE]


def test_it_is_found_out_once(workspace, monkeypatch):
    place = open_prefix(workspace, "results")
    first = probe(place)
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    assert probe(place) == first


def test_first_uses_at_the_same_moment_agree(workspace):
    place = open_prefix(workspace, "results")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: probe(place), range(4)))
    assert all(entry.conditional_create for entry in found)
    assert [info.key for info in place.objects()] == [FILE]
    assert msgspec.json.decode(place.read(FILE), type=Probe) in found


def test_one_of_version_0_1_0_counts(file_workspace):
    place = open_prefix(file_workspace, "results")
    kept = {"conditional_create": True, "read_after_write": True}
    older = {"schema": 1, "created_at": "2026-11-01T00:00:00Z", **kept}
    place.write(FILE, msgspec.json.encode(older | {"conditional_replace": True, "list_after_write": True}))
    assert msgspec.to_builtins(probe(place)) == older


@pytest.mark.parametrize("torn", [b"", b"{", b'{"schema": 1}'])
def test_a_torn_one_is_found_out_again(file_workspace, torn):
    place = open_prefix(file_workspace, "results")
    place.write(FILE, torn)
    found = probe(place)
    assert msgspec.json.decode(place.read(FILE), type=Probe) == found


def test_a_store_that_ignores_the_condition_is_noticed(file_workspace, monkeypatch):
    place = open_prefix(file_workspace, "results")
    monkeypatch.setattr(type(place), "create", lambda self, key, data: bool(self.write(key, data)))
    found = probe(place)
    assert not found.conditional_create


def test_a_workspace_that_can_not_be(s3_environment, monkeypatch):
    with pytest.raises(InvalidConfig, match="bucket does not exist"):
        probe(open_prefix("s3://no-such-bucket/x", "results"))
    for name, value in s3_environment.variables("INTERNAL_S3_", s3_environment.readonly).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied):
        probe(open_prefix("s3://results/readonly-workspace", "results"))
