"""Metrics that every trainer measures in the same way, so that the gate can compare the figures of one with those of another."""

from __future__ import annotations

#: Among how many of the likeliest classes of an image the true one must be.
WITHIN = {"accuracy_top1": 1, "accuracy_top5": 5}
