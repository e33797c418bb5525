"""Trainings that are told, for the tests here."""

from laptop import file_laptop
from published_training import converted, send_to, training

__all__ = ["converted", "file_laptop", "send_to", "training"]
