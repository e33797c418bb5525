"""Compiles the pipelines for an engine. Only ``make golden`` lets it write into ``manifests/``."""

from __future__ import annotations

from pathlib import Path

from visionloop.core.errors import AccessDenied, InvalidConfig
from visionloop.core.logs import notice
from visionloop.core.policy import REGISTRY
from visionloop.pipelines import engines


def compile_engine(
    engine: str, out: Path, registry: str = REGISTRY, tag: str | None = None, gpus: int | None = None
) -> list[Path]:
    """Writes an engine's files into a folder, and reports what the engine can't express.

    Args:
        engine: The engine's name.
        out: The folder, created if it does not exist.
        registry: The images' registry.
        tag: The images' tag, by default the package's version.
        gpus: GPUs of train's pod, of which evaluate's has one; by default the policy's number.

    Returns:
        The files written, sorted.

    Raises:
        InvalidConfig: If there is no such engine, it has no files, it takes the number of GPUs at each run, or the registry or
            tag can't be part of an image's name.
        AccessDenied: If the folder can't be written.
    """
    if engine not in engines.clusters():
        raise InvalidConfig(f"--engine {engine}: give one of {', '.join(engines.clusters())}.")
    chosen = engines.engine(engine)
    target = chosen.target(registry, tag, gpus)
    files = chosen.compile(target)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AccessDenied(
            f"--out {out}: {error.filename or out} can't be written ({error.strerror}); give a folder that can be."
        ) from error
    for sentence in chosen.unexpressed(target):
        notice(f"{engine} can't express: {sentence}")
    return sorted(out / name for name in files)
