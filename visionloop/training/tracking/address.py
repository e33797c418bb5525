"""MLflow's address: which URIs name an MLflow with a model registry, and what to write in place of another one."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from visionloop.core.errors import InvalidConfig

#: Schemes of servers, and of the databases that MLflow keeps a registry in
#: (https://mlflow.org/docs/latest/self-hosting/architecture/backend-store/).
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}(?:/.*)?")


def shown(uri: str) -> str:
    """A URI without its user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # a bracket without its other half
        return uri.rpartition("@")[2].partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def check_address(uri: str, variable: str) -> str:
    """Returns the URI of an MLflow if it has a form that can be used; a scheme that only a plugin knows is left to MLflow.

    Args:
        uri: The URI.
        variable: The variable that it comes from.

    Raises:
        InvalidConfig: If it names a folder, a server without its scheme, or no host or file; with the URI that would do.
    """
    scheme, separator, rest = uri.partition("://")
    plain = re.sub(r"(^|//)[^/@]*@", r"\1", uri)  # a user and password stay out of the sentence
    name = scheme.lower().partition("+")[0]
    if not separator and _HOST_AND_PORT.fullmatch(plain):
        raise InvalidConfig(f"{variable} {plain}: http:// is missing before the server's name; give http://{plain}.")
    if not separator and re.match(r"https?:", uri, re.IGNORECASE):
        host = plain.partition(":")[2].lstrip("/")
        raise InvalidConfig(
            f"{variable} {plain}: '//' is missing after the colon; give {plain.partition(':')[0]}://{host}."
        )
    if not separator and re.fullmatch(r"databricks(-uc)?(:.*)?", uri):
        return uri
    if not separator or name == "file":
        raise InvalidConfig(
            f"{variable} {plain}: MLflow keeps no registered models in a folder; give {_database_in(plain)}, or a server such as http://mlflow:5000."
        )
    if name in SERVERS and not _host(uri):
        raise InvalidConfig(f"{variable} {shown(uri)}: no server's name can be read in it; give http://mlflow:5000.")
    if name == "sqlite" and rest and not rest.startswith("/"):
        raise InvalidConfig(
            f"{variable} {plain}: a path after sqlite: needs three slashes, a whole one four; give sqlite:///{rest}."
        )
    return uri


def _host(uri: str) -> str:
    """The host of a URL; empty where it can't be read."""
    try:
        parts = urlsplit(uri)
        return (
            parts.hostname if parts.hostname and re.fullmatch(r"[\w.:-]+", parts.hostname) and parts.port != 0 else ""
        )
    except ValueError:
        return ""


def _database_in(uri: str) -> str:
    """The URI of a database in the folder that a path or a ``file:`` URI names."""
    path = re.sub(r"^//(localhost)?(?=/)", "", uri.partition(":")[2]) if uri.lower().startswith("file:") else uri
    folder = os.path.abspath(os.path.expanduser(unquote(path) or "mlruns"))
    return f"sqlite:///{folder}/mlflow.db"
