"""Trainings that are told, for the tests here."""

from published_training import converted, send_to, training

__all__ = ["converted", "send_to", "training"]
