"""Datasets and results may lie in different stores; each role finds its own endpoint and keys."""

from __future__ import annotations

import pytest

from visionloop.core.errors import AccessDenied, NotFound
from visionloop.core.storage import open_prefix
from visionloop.core.stores import AWS, credentials_of, endpoint_of


def test_two_stores_with_different_keys_and_endpoints(s3, second_s3, monkeypatch):
    for name, value in (s3.variables("EXTERNAL_S3_") | second_s3.variables("INTERNAL_S3_")).items():
        monkeypatch.setenv(name, value)
    dataset = open_prefix("s3://datasets/roles", "dataset")
    results = open_prefix("s3://datasets/roles", "results")
    dataset.write("object", b"external")
    results.write("object", b"internal")
    assert dataset.read("object") == b"external"
    assert results.read("object") == b"internal"
    dataset.delete(["object"])
    with pytest.raises(NotFound):
        dataset.read("object")
    assert results.read("object") == b"internal"


def test_a_roles_keys_do_not_open_the_other_store(s3, second_s3, monkeypatch):
    for name, value in second_s3.variables("EXTERNAL_S3_", s3.keys).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied):
        open_prefix("s3://datasets/x", "dataset").read("a")


@pytest.mark.parametrize(("prefix", "role"), [("EXTERNAL_STORAGE_", "dataset"), ("S3_", "dataset"), ("S3_", "results")])
def test_older_names_of_the_variables(s3, monkeypatch, prefix, role):
    for name, value in s3.variables(prefix).items():
        monkeypatch.setenv(name, value)
    store_prefix = open_prefix("s3://results/older", role)
    store_prefix.write(f"{prefix}{role}", b"1")
    assert store_prefix.read(f"{prefix}{role}") == b"1"


def test_the_newest_name_comes_first_and_a_role_leaves_the_others_alone():
    environment = {
        "EXTERNAL_S3_ENDPOINT": "http://newest:1",
        "EXTERNAL_STORAGE_ENDPOINT": "http://older:1",
        "S3_ENDPOINT": "http://oldest:1",
        "AWS_ENDPOINT_URL": "http://standard:1",
        "EXTERNAL_S3_ACCESS_KEY": "a",
        "EXTERNAL_S3_SECRET_KEY": "b",
    }
    assert endpoint_of("dataset", environment) == "http://newest:1"
    assert endpoint_of("results", environment) == "http://oldest:1"
    assert credentials_of("dataset", environment) == ("a", "b")
    assert credentials_of("results", environment) is None
    del environment["S3_ENDPOINT"]
    assert endpoint_of("results", environment) == "http://standard:1"
    assert endpoint_of("results", environment | {"AWS_ENDPOINT_URL_S3": "https://s3:1/"}) == "https://s3:1"
    assert endpoint_of("results", {}) == AWS
    assert endpoint_of("results", {"INTERNAL_S3_ENDPOINT": "127.0.0.1:9000"}) == "http://127.0.0.1:9000"
    assert endpoint_of("results", {"INTERNAL_S3_ENDPOINT": "http://[::1]:9000"}) == "http://[::1]:9000"
    assert endpoint_of("results", {"INTERNAL_S3_ENDPOINT": "minio.storage.svc:9000"}) == "http://minio.storage.svc:9000"


def test_standard_aws_variables(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.keys.secret)
    for role in ("dataset", "results"):
        open_prefix("s3://results/aws", role).write(role, role.encode())
    assert open_prefix("s3://results/aws", "results").read("dataset") == b"dataset"
    assert open_prefix("s3://results/aws", "dataset").read("results") == b"results"


@pytest.mark.parametrize("profile", [None, "loop"])
def test_an_aws_profile_gives_keys_and_endpoint(s3, monkeypatch, tmp_path, profile):
    name = profile or "default"
    (tmp_path / "credentials").write_text(
        f"[{name}]\naws_access_key_id = {s3.keys.access}\naws_secret_access_key = {s3.keys.secret}\n"
    )
    heading = name if profile is None else f"profile {name}"
    (tmp_path / "config").write_text(f"[{heading}]\nregion = eu-central-1\nendpoint_url = {s3.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    prefix = open_prefix("s3://results/profile", "results")
    prefix.write(f"object of {name}", b"1")
    assert prefix.read(f"object of {name}") == b"1"


def test_a_foreign_session_token_is_not_sent_with_a_roles_own_keys(s3_environment, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other keys")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "keys")
    provider = open_prefix("s3://results/x", "results").store.credential_provider
    assert provider() == {
        "access_key_id": s3_environment.keys.access,
        "secret_access_key": s3_environment.keys.secret,
        "token": None,
        "expires_at": None,
    }
    open_prefix("s3://results/x", "results").write("object", b"1")


def test_a_pod_without_keys_is_told_where_keys_lie_and_the_aws_chain_still_counts(s3, monkeypatch):
    with pytest.raises(AccessDenied) as on_a_laptop:
        open_prefix("s3://results/x", "results")
    assert "visionloop-" not in str(on_a_laptop.value)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    for role in ("dataset", "results"):
        with pytest.raises(
            AccessDenied, match=r"keys lie in visionloop-dataset, -results, -registry \(docs/engines.md\)"
        ):
            open_prefix("s3://results/x", role)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.keys.secret)
    assert open_prefix("s3://results/x", "dataset").uri == "s3://results/x"
