"""What a finding is, under the name that the checks of DICE have for it."""

from visionloop.data.annotations.findings import Finding, Severity

__all__ = ["Finding", "Severity"]
