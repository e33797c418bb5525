"""Laptops for the tests here."""

from laptop import make_laptop

__all__ = ["make_laptop"]
