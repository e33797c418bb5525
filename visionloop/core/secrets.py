"""Which variables hold secrets, and what keeps their values out of every text that leaves a process.

docs/configuration.md, "Secrets", is written from CREDENTIALS. Free text (log lines, sentences, notices, tracebacks, messages,
descriptions) goes through ``redact``; a field that a program reads again (a URI, a name, an argument) through ``redact_urls``,
which changes nothing but what stands for a password in a URL.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

#: What stands in place of a secret.
HIDDEN = "***"

#: The shortest value that is looked for in free text: a shorter one would be found in ordinary words.
SHORTEST = 8

#: What pods take from a Secret of its own, ``visionloop-ROLE`` (docs/engines.md, "What every pod has").
ROLES = ("dataset", "results", "registry", "notify", "events")


@dataclass(frozen=True)
class Credential:
    """A variable that belongs in a Secret.

    Attributes:
        name: The variable.
        role: The Secret that pods take it from, one of ROLES; None for a variable that no pod reads.
        secret: Whether its value is never shown. An access key id and a user's name are not secrets.
        user: The variable of the user or key id that it belongs to: HTTP sends both as one base64 text.
    """

    name: str
    role: str | None
    secret: bool = True
    user: str | None = None


def _pair(prefix: str, role: str) -> tuple[Credential, Credential]:
    access = f"{prefix}ACCESS_KEY"
    return Credential(access, role, secret=False), Credential(f"{prefix}SECRET_KEY", role, user=access)


#: Every variable that belongs in a Secret.
CREDENTIALS = (
    *_pair("EXTERNAL_S3_", "dataset"),
    *_pair("EXTERNAL_STORAGE_", "dataset"),
    *_pair("INTERNAL_S3_", "results"),
    *_pair("S3_", "results"),
    Credential("AWS_ACCESS_KEY_ID", "results", secret=False),
    Credential("AWS_SECRET_ACCESS_KEY", "results", user="AWS_ACCESS_KEY_ID"),
    Credential("AWS_SESSION_TOKEN", "results"),
    Credential("MLFLOW_TRACKING_USERNAME", "registry", secret=False),
    Credential("MLFLOW_TRACKING_PASSWORD", "registry", user="MLFLOW_TRACKING_USERNAME"),
    Credential("MLFLOW_TRACKING_TOKEN", "registry"),
    Credential("VISIONLOOP_DATABASE_URL", "registry"),
    Credential("CLEARML_API_ACCESS_KEY", "registry", secret=False),
    Credential("CLEARML_API_SECRET_KEY", "registry", user="CLEARML_API_ACCESS_KEY"),
    Credential("CLEARML_AUTH_TOKEN", "registry"),
    Credential("VISIONLOOP_NOTIFY_URL", "notify"),
    Credential("VISIONLOOP_EVENTS_URL", "events"),
    Credential("VISIONLOOP_EVENTS_SECRET", "events"),
    Credential("CALLBACK_URL", "events"),
    Credential("CALLBACK_TOKEN", "events"),
    Credential("VISIONLOOP_SERVE_TOKEN", None),
    Credential("ARGO_TOKEN", None),
    Credential("KFP_EXISTING_TOKEN", None),
    Credential("KFP_COOKIES", None),
)

#: The variables whose value is never shown.
SECRETS = tuple(credential for credential in CREDENTIALS if credential.secret)

#: Parameters of a URL's query that stand for a password: those of presigned addresses, and PKCS #11's PIN (RFC 7512).
_PARAMETER = re.compile(r"(?i)([?&;](?:X-Amz-[\w-]+|Signature|token|key|sig|pin-value)=)[^&;#\s\"'<>]+")

#: The user and password of a URL. A password may hold a slash, which a port's number before a path does not.
_USER = re.compile(r"(?<=://)(?:[^\s/?#\"'<>]*|[^\s/@:\[\"'<>]*:(?!\d+/)[^\s\"'<>]*)@")

#: A URL in a text. In a file's URI and in a path every character is the name's own.
_URL = re.compile(r"(?i)\b(?!file:)[a-z][a-z0-9+.-]*:[^\s\"'<>]+")

#: Values that became known while the process ran.
_remembered: set[str] = set()

#: The variables and remembered values by which the last text of this process was redacted, and what they hide.
_found: tuple[Mapping[Any, Any], set[str], tuple[str, ...]] | None = None


def secret_of(role: str) -> str:
    """The name of a role's Secret."""
    return f"visionloop-{role}"


def variables(role: str) -> tuple[str, ...]:
    """The variables that pods take from a role's Secret."""
    return tuple(credential.name for credential in CREDENTIALS if credential.role == role)


def remember(value: str) -> None:
    """Counts a value as secret that no variable holds, such as a token that was read from a file."""
    _remembered.add(value.strip())


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Free text without any secret of this process (8 characters or more) and without passwords in URLs."""
    for form in _of_process() if environment is None else _of(environment):
        text = text.replace(form, HIDDEN)
    return redact_urls(text)


def redact_urls(text: str) -> str:
    """The text without user, password, PIN and signing parameters in its URLs; all else is left as it is."""
    if ":" not in text:
        return text
    return _URL.sub(lambda match: _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USER.sub(f"{HIDDEN}@", match[0])), text)


def redact_fields(value: Any) -> Any:
    """A JSON value whose texts have gone through ``redact_urls``."""
    if isinstance(value, str):
        return redact_urls(value)
    if isinstance(value, Mapping):
        return {name: redact_fields(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redact_fields(entry) for entry in value]
    return value


def _of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What is hidden by the variables of an environment, and by what was remembered."""
    pairs = tuple((environment.get(entry.name, ""), environment.get(entry.user or "", "")) for entry in SECRETS)
    return _forms(pairs, _passwords(environment), tuple(sorted(_remembered)))


def _of_process() -> tuple[str, ...]:
    """The same of this process's own, found again only where a variable has changed: a page has thousands of texts."""
    global _found
    # What os.environ decodes at every look; to compare it takes a hundredth of that.
    variables = getattr(os.environ, "_data", None)
    found = _found
    if found is None or variables is None or found[0] != variables or found[1] != _remembered:
        found = (dict(variables or {}), set(_remembered), _of(os.environ))
        _found = found
    return found[2]


def _passwords(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The passwords in the addresses that variables hold, such as a tracking URI's or a proxy's."""
    matches = (re.search(r"://[^\s/?#:]*:([^\s/?#]+)@", value) for value in environment.values() if "@" in value)
    return tuple(sorted({unquote(match[1]) for match in matches if match}))


@functools.lru_cache(maxsize=64)
def _forms(
    pairs: tuple[tuple[str, str], ...], passwords: tuple[str, ...], remembered: tuple[str, ...]
) -> tuple[str, ...]:
    """Every spelling under which a secret may stand in a text, the longest first."""
    forms: set[str] = set()
    for value, user in [*pairs, *((value, "") for value in (*passwords, *remembered))]:
        stripped = value.strip()
        if user and len(stripped) >= SHORTEST:
            forms |= set(_base64(f"{user.strip()}:{stripped}"))
        for part in (value, stripped, *_parts(stripped)):
            if len(part) >= SHORTEST:
                forms |= {part, *_spellings(part)}
    return tuple(sorted(forms, key=len, reverse=True))


def _parts(value: str) -> Iterator[str]:
    """What a library may print of a value: a line of it, the path of an address, one of several cookies."""
    yield from value.splitlines()
    if re.match(r"(?i)(Bearer|Basic) ", value):
        yield value.partition(" ")[2].strip()
    if re.match(r"https?://", value):
        address = urlsplit(value)
        yield address._replace(scheme="", netloc="").geturl()
        yield address.path.strip("/")
        yield address.query
    elif "=" in value:
        yield from (cookie.partition("=")[2].strip() for cookie in value.split(";"))


def _spellings(value: str) -> Iterator[str]:
    yield from (quote(value), quote(value, safe=""), quote_plus(value), html.escape(value))
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
    yield from _base64(value)


def _base64(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        padded = encode(data).decode()
        yield from (padded, padded.rstrip("="))
