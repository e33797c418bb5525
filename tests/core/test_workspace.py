"""The first use of a workspace finds out what its store keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from faulty_proxy import CUT, failing

from visionloop.core import workspace as module
from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.core.workspace import FILE, Probe, probe


def test_the_embedded_stores_keep_what_the_layout_rests_on(workspace):
    prefix = open_prefix(workspace, "results")
    result = probe(prefix)
    assert result.conditional_create
    assert result.read_after_write
    assert [info.key for info in prefix.objects()] == [FILE]


def test_lost_answers_are_no_sign_of_a_store_that_keeps_no_condition(s3, s3_workspace, monkeypatch):
    """The write is sent again and refused, so nobody hears that it was his."""
    racing = range(2, 2 + module.RACERS)
    with failing(s3.endpoint, lambda number: CUT if number in racing else None) as proxy:
        monkeypatch.setenv("INTERNAL_S3_ENDPOINT", proxy.url)
        result = probe(open_prefix(s3_workspace, "results"))
    assert {(call.method, call.path.split("/")[-2]) for call in proxy.failed} == {("PUT", ".probe")}
    assert len(proxy.failed) == module.RACERS
    assert result.conditional_create


def test_it_is_found_out_once(workspace, monkeypatch):
    prefix = open_prefix(workspace, "results")
    first = probe(prefix)
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    assert probe(prefix) == first


def test_first_uses_at_the_same_moment_agree(workspace):
    prefix = open_prefix(workspace, "results")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: probe(prefix), range(4)))
    assert all(entry.conditional_create for entry in results)
    assert [info.key for info in prefix.objects()] == [FILE]
    assert msgspec.json.decode(prefix.read(FILE), type=Probe) in results


def test_one_of_version_0_1_0_counts(file_workspace):
    prefix = open_prefix(file_workspace, "results")
    kept = {"conditional_create": True, "read_after_write": True}
    older = {"schema": 1, "created_at": "2026-11-01T00:00:00Z", **kept}
    prefix.write(FILE, msgspec.json.encode(older | {"conditional_replace": True, "list_after_write": True}))
    assert msgspec.to_builtins(probe(prefix)) == older


@pytest.mark.parametrize("torn", [b"", b"{", b'{"schema": 1}'])
def test_a_torn_one_is_found_out_again(file_workspace, torn):
    prefix = open_prefix(file_workspace, "results")
    prefix.write(FILE, torn)
    result = probe(prefix)
    assert msgspec.json.decode(prefix.read(FILE), type=Probe) == result


def test_a_store_that_ignores_the_condition_is_noticed(file_workspace, monkeypatch):
    prefix = open_prefix(file_workspace, "results")
    monkeypatch.setattr(type(prefix), "create", lambda self, key, data: bool(self.write(key, data)))
    result = probe(prefix)
    assert not result.conditional_create


def test_a_workspace_that_can_not_be(s3_environment, monkeypatch):
    with pytest.raises(InvalidConfig, match="bucket does not exist"):
        probe(open_prefix("s3://no-such-bucket/x", "results"))
    for name, value in s3_environment.variables("INTERNAL_S3_", s3_environment.readonly).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied):
        probe(open_prefix("s3://results/readonly-workspace", "results"))
