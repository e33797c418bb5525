"""A PostgreSQL of the tests' own: a folder, a Unix socket in it, no port; started as a user without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

#: Where Debian's package keeps what ``initdb`` and ``pg_ctl`` are, by version.
FOLDERS = "/usr/lib/postgresql/*/bin"

#: Who the server runs as where the tests run as root: it refuses root.
NOBODY = 65534


def binaries() -> Path | None:
    """The folder of the server's programs; None if it is not installed."""
    root = Path("/usr/lib/postgresql")
    found = sorted(root.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server with an empty database ``postgres`` and a user ``test`` whose password is ``secret-word``."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL here; .ci/run installs Debian's package postgresql")
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="visionloop-postgresql-", dir="/tmp"))
    if os.geteuid() == 0:
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        os.chown(home, NOBODY, NOBODY)
    (home / "password").write_text("secret-word\n")
    (home / "password").chmod(0o644)

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*as_user, str(folder / program), "-D", str(home / "data"), *arguments],
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    options = [
        "-U",
        "test",
        "--auth=scram-sha-256",
        f"--pwfile={home / 'password'}",
        "--no-sync",
        "--locale=C",
        "-E",
        "UTF8",
    ]
    run("initdb", *options)
    run(
        "pg_ctl", "-w", "-l", str(home / "log"), "-o", f"-c listen_addresses='' -k {home} -p 5999 -c fsync=off", "start"
    )
    try:
        yield f"postgresql://test:secret-word@/postgres?host={quote(str(home), safe='')}&port=5999"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
