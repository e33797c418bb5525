"""The warnings of a run's stages: their counts in the run's result, and the line that shows them on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from visionloop.core.runs import WARNINGS, StageState


def warnings_of(stages: Mapping[str, StageState]) -> dict[str, dict[str, int]]:
    """How often each code was warned of, by stage; a stage without a warning is left out."""
    counts = {name: state.scalars.get(WARNINGS) for name, state in stages.items()}
    return {name: dict(codes) for name, codes in counts.items() if isinstance(codes, dict) and codes}


def warnings_text(counts: Mapping[str, int], report: str | None) -> str:
    """A stage's warnings for people: "3 warnings: class_absent (2), exif_orientation (1); report: LINK"; "" without any."""
    if not counts:
        return ""
    total = sum(counts.values())
    codes = ", ".join(f"{code} ({count:,})" for code, count in sorted(counts.items()))
    link = f"; report: {report}" if report else ""
    return f"{total:,} {'warning' if total == 1 else 'warnings'}: {codes}{link}"
