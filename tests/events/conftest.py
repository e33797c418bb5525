"""Trainings that are told, for the tests here."""

from told_training import converted, told, training

__all__ = ["converted", "told", "training"]
