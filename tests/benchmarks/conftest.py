"""Laptops for the tests here."""

from laptop import digits, file_laptop, laptop, make_dataset, make_laptop

__all__ = ["digits", "file_laptop", "laptop", "make_dataset", "make_laptop"]
