"""What a URI means: its parts, and the endpoint and keys of the store of its role (docs/contract.md, "Stores")."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from obstore.store import S3Store

from visionloop.core.errors import AccessDenied, InvalidConfig

Role = Literal["dataset", "results"]

#: Prefixes of the variables `…ENDPOINT`, `…ACCESS_KEY`, `…SECRET_KEY`, by role, newest name first.
VARIABLES: dict[Role, tuple[str, ...]] = {
    "dataset": ("EXTERNAL_S3_", "EXTERNAL_STORAGE_", "S3_"),
    "results": ("INTERNAL_S3_", "S3_"),
}


#: Shown as the endpoint where none is set.
AWS = "AWS S3"


#: A bucket's name.
BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"


def normalise_uri(uri: str) -> str:
    """One spelling for each location: ``s3://bucket/prefix`` or ``file:///absolute/path``, without a trailing slash.

    Raises:
        InvalidConfig: If it is neither an ``s3://`` or ``file://`` URI nor a path.
    """
    if not uri or re.search(r"[\x00-\x1f\x7f]", uri):
        raise InvalidConfig(
            f"The URI {uri!r} is empty or holds control characters; give s3://bucket/prefix, file:///folder or a path."
        )
    scheme, separator, rest = uri.partition("://")
    if not separator or "/" in scheme:
        if re.match(r"(s3|file):", uri, re.IGNORECASE):
            raise InvalidConfig(f"{uri}: '//' is missing after the colon; give s3://bucket/prefix or file:///folder.")
        return _file_uri(os.path.expanduser(uri))
    # Only '/' separates the parts of an S3 key or a path: '?' and '#' are ordinary characters.
    authority, _, path = rest.partition("/")
    if scheme.lower() == "s3":
        parts = [part for part in path.split("/") if part]
        if not re.fullmatch(BUCKET, authority) or not {".", ".."}.isdisjoint(parts):
            raise InvalidConfig(f"{uri}: not an S3 URI; give s3://bucket/prefix.")
        return "/".join([f"s3://{authority}", *parts])
    if scheme.lower() == "file":
        if authority not in ("", "localhost"):
            raise InvalidConfig(f"{uri}: a file URI names no host; give file:///folder.")
        if re.search(r"[\x00-\x1f\x7f]", unquote(path)):
            raise InvalidConfig(f"{uri}: a control character stands in the path; give file:///folder.")
        return _file_uri("/" + unquote(path))
    raise InvalidConfig(f"{uri}: {scheme}:// is not supported; give s3://bucket/prefix, file:///folder or a path.")


def _file_uri(path: str) -> str:
    # POSIX allows two leading slashes a meaning of their own; here they mean the same as one.
    return Path(re.sub(r"^/+", "/", os.path.abspath(path))).as_uri()


def local_path(uri: str) -> Path | None:
    """The folder or file that a ``file://`` URI names, None for S3."""
    return Path(unquote(uri.removeprefix("file://"))) if uri.startswith("file://") else None


def endpoint_of(role: Role, environment: Mapping[str, str] | None = None) -> str:
    """The S3 endpoint of a role: its own variable, else the standard AWS ones, else AWS itself.

    Raises:
        InvalidConfig: If a variable is not an http or https URL.
    """
    environment = os.environ if environment is None else environment
    names = [f"{prefix}ENDPOINT" for prefix in VARIABLES[role]] + ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
    for name in names:
        if value := environment.get(name, "").strip():
            return _endpoint(name, value)
    return AWS


def _endpoint(name: str, value: str) -> str:
    """An endpoint with its scheme. It is checked here because the client ends the process if it is not a URL."""
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(re.fullmatch(r"[\w.:-]+", parts.hostname or ""))
        good = good and parts.port != 0 and not parts.username and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise InvalidConfig(f"{name} is not an endpoint's URL; give one such as http://127.0.0.1:9000.")
    return url.rstrip("/")


def credentials_of(role: Role, environment: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The access and secret key of a role's own variables, or None to use the standard AWS chain.

    Raises:
        AccessDenied: If only one of the pair is set.
    """
    environment = os.environ if environment is None else environment
    for prefix in VARIABLES[role]:
        access, secret = environment.get(f"{prefix}ACCESS_KEY"), environment.get(f"{prefix}SECRET_KEY")
        if access and secret:
            return access, secret
        if access or secret:
            missing = "SECRET_KEY" if access else "ACCESS_KEY"
            raise AccessDenied(f"{prefix}{missing} is not set while its other half is; set both.")
    return None


def s3_store(bucket: str, role: Role) -> S3Store:
    """A bucket with the endpoint and keys of a role; no request is made yet.

    Raises:
        AccessDenied: If there are no keys, or only one of the pair.
    """
    endpoint, pair = endpoint_of(role), credentials_of(role)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if pair:
        provider: Any = functools.partial(_own_keys, *pair)
    else:
        session, provider = _standard_credentials(role)
        region = region or session.region_name
        if endpoint == AWS and (value := session._session.get_scoped_config().get("endpoint_url")):
            endpoint = _endpoint("endpoint_url in the AWS profile", value)
    options: dict[str, Any] = {
        "region": region or "us-east-1",
        "credential_provider": provider,
        # A request ends when nothing arrives, not after a total time: a large object on a slow line takes long.
        "client_options": {"allow_http": True, "connect_timeout": "5s", "read_timeout": "60s", "timeout": "1h"},
        "retry_config": {
            "max_retries": 4,
            "retry_timeout": _seconds(20),
            "backoff": {"init_backoff": _seconds(0.2), "max_backoff": _seconds(4), "base": 2},
        },
    }
    if endpoint != AWS:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    return S3Store(bucket, **options)


def _own_keys(access: str, secret: str) -> dict[str, Any]:
    """A role's own keys, as a provider: passed directly, the client would add the AWS_SESSION_TOKEN of other keys."""
    return {"access_key_id": access, "secret_access_key": secret, "token": None, "expires_at": None}


def _standard_credentials(role: Role) -> tuple[Any, Any]:
    """Session and credentials by the standard AWS chain (variables, profiles, roles), which obstore supports only in part."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise AccessDenied(f"No keys for the {role} store: {error}; correct the AWS profile or variable.") from error
    if credentials is None:
        in_a_pod = os.environ.get("KUBERNETES_SERVICE_HOST")
        pods = "; keys lie in visionloop-dataset, -results, -registry (docs/engines.md)" if in_a_pod else ""
        raise AccessDenied(
            f"No keys for the {role} store: set {VARIABLES[role][0]}ACCESS_KEY and …SECRET_KEY, or an AWS profile{pods}."
        )
    return session, Boto3CredentialProvider(session)


def _seconds(value: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=value)


def split_uri(uri: str) -> tuple[str, str]:
    """A URI's parent and its last part: the prefix to open and the key to read."""
    parent, _, name = normalise_uri(uri).rpartition("/")
    return parent, name
