"""The working folder as git knows it: what a registered model's code and settings were checked in as."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: Seconds that git is waited for: a folder on a network may be slow, and a model is registered without it too.
SECONDS = 10.0


def commit(folder: Path | None = None) -> str:
    """The commit of the repository that a folder is in, with ``-dirty`` behind it where a file differs from it.

    Empty where there is no git, no repository or no commit yet, where git refuses the folder as somebody else's, or takes too long.

    Args:
        folder: The folder; that of this process unless given.
    """
    found = _git(folder, "rev-parse", "--verify", "HEAD")
    if not found:
        return ""
    return f"{found}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else found


def _git(folder: Path | None, *words: str) -> str:
    """What git prints; empty where it fails."""
    # It takes no lock and asks nobody: whoever works in the folder does not notice.
    variables = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            # No program of the repository's own is started to look for changes.
            ["git", "-c", "core.fsmonitor=false", *words],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()
