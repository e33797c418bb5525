"""One spelling per place, whatever a person typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visionloop.core.errors import InvalidConfig
from visionloop.core.storage import open_prefix
from visionloop.core.stores import local_path, normalise_uri

PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9.-]{2,20}", fullmatch=True)


@given(PATHS)
@example("%2e%2e/x")
@example("a#b?c;d")
@example("//x")
@example("~/x y")
def test_a_path_has_one_spelling_that_leads_back_to_it(path):
    if "://" in path or path.lower().startswith(("s3:", "file:")):
        return
    uri = normalise_uri(path)
    assert uri.startswith("file:///")
    assert normalise_uri(uri) == uri
    assert normalise_uri(path + "/") == uri
    folder = local_path(uri)
    assert folder is not None
    assert str(folder) == "/" + os.path.abspath(os.path.expanduser(path)).lstrip("/")
    assert normalise_uri(str(folder)) == uri


@given(BUCKETS, PATHS)
@example("bucket", "a#b/c?d;e")
@example("bucket", "p%20q//r/")
def test_an_s3_prefix_keeps_its_characters(bucket, key):
    parts = [part for part in key.split("/") if part]
    if {".", ".."} & set(parts):
        with pytest.raises(InvalidConfig):
            normalise_uri(f"s3://{bucket}/{key}")
        return
    uri = normalise_uri(f"s3://{bucket}/{key}")
    assert uri == "/".join([f"s3://{bucket}", *parts])
    assert normalise_uri(uri) == uri
    assert normalise_uri(uri + "//") == uri
    assert local_path(uri) is None


@pytest.mark.parametrize(
    ("spelling", "uri"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket//a//b/", "s3://bucket/a/b"),
        ("s3://bucket/a b/ü%20", "s3://bucket/a b/ü%20"),
        ("file:///a/b/", "file:///a/b"),
        ("file://localhost/a/b", "file:///a/b"),
        ("FILE:///a", "file:///a"),
        ("file:///a%20b/%2e%2e/c", "file:///c"),
        ("file:///a b", "file:///a%20b"),
        ("file:///a#b?c", "file:///a%23b%3Fc"),
        ("/a/./b/../c//d/", "file:///a/c/d"),
        ("//a", "file:///a"),
        ("/a%20b", "file:///a%2520b"),
        ("/", "file:///"),
    ],
)
def test_spellings(spelling, uri):
    assert normalise_uri(spelling) == uri


def test_relative_paths_and_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert normalise_uri("a/b") == (tmp_path / "a/b").as_uri()
    assert normalise_uri(".") == tmp_path.as_uri()
    assert normalise_uri("~/x") == (tmp_path / "home/x").as_uri()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3://",
        "s3:///key",
        "s3:/bucket/key",
        "file:relative",
        "s3://bucket/../other",
        "s3://bucket/a/./b",
        "s3://user:secret@bucket/a",
        "s3://[x",
        "gs://bucket/a",
        "http://host/a",
        "file://host/a",
        "/a\x00b",
        "s3://bucket/a\nb",
        "file:///a%00b",
    ],
)
def test_what_is_no_uri_of_ours_is_a_wrong_configuration(text):
    with pytest.raises(InvalidConfig) as caught:
        normalise_uri(text)
    assert "s3://bucket/prefix" in str(caught.value) or "file:///folder" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_root_folder_and_a_whole_bucket_are_places_too(s3_environment, tmp_path):
    root = open_prefix("/", "dataset")
    child = root.child(str(tmp_path)[1:])
    assert child.uri == tmp_path.as_uri()
    (tmp_path / "x").write_bytes(b"1")
    assert [info.key for info in child.objects()] == ["x"]
    bucket = open_prefix("s3://datasets", "dataset")
    assert bucket.child("a").uri == "s3://datasets/a"
    bucket.write("whole bucket", b"1")
    assert "whole bucket" in [info.key for info in bucket.objects()]
    assert open_prefix("s3://datasets/a#b", "dataset").path == "a#b"
    assert Path(local_path(child.uri) or "") == tmp_path
